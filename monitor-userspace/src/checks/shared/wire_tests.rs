//! What a peer on a wire may do to whoever reads it: too much, too little, nothing.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::*;

/// A server that says this to whoever comes, whatever they say, and then keeps the connection or not.
pub(crate) async fn saying(bytes: Vec<u8>, keeps: bool) -> Place {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("it listens");
    let place = Place::Tcp(listener.local_addr().expect("it has an address"));
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            // Who has seen enough goes away.
            let _said = stream.write_all(&bytes).await;
            if keeps {
                kept.push(stream);
            }
        }
    });
    place
}

/// A server that never stops talking.
pub(crate) async fn without_end(bytes: Vec<u8>) -> Place {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("it listens");
    let place = Place::Tcp(listener.local_addr().expect("it has an address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            while stream.write_all(&bytes).await.is_ok() {}
        }
    });
    place
}

/// A future on a runtime as the daemon's.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("there is a runtime");
    runtime.block_on(async {
        let limited = tokio::time::timeout(Duration::from_secs(30), future);
        limited.await.expect("it ends")
    })
}

#[test]
fn places_are_addresses_and_sockets_and_no_names() {
    let read = |text: &str| Place::deserialize(toml::Value::String(text.to_owned()));
    assert_eq!(
        read("127.0.0.1:1").expect("it is one"),
        Place::Tcp(([127, 0, 0, 1], 1).into())
    );
    assert_eq!(
        read("unix:/run/x").expect("it is one"),
        Place::Unix("/run/x".into())
    );
    for text in ["localhost:1", "127.0.0.1", "unix:run/x", "unix:", ""] {
        let error = read(text).expect_err(text).to_string();
        assert!(error.contains("is no address"), "{error}");
    }
}

#[test]
fn lines_and_blocks_are_read_as_they_come() {
    run(async {
        let place = saying(b"one\r\ntwo\nabcdef".to_vec(), false).await;
        let mut wire = Wire::open(&place, 100).await.expect("it is there");
        assert_eq!(wire.line(10).await.expect("a line"), b"one");
        assert_eq!(wire.line(10).await.expect("a line"), b"two");
        assert_eq!(wire.exactly(3).await.expect("a block"), b"abc");
        let short = wire.exactly(4).await.expect_err("there are but three");
        assert!(short.to_string().contains("before its answer was whole"));
    });
}

#[test]
fn what_has_no_end_is_read_up_to_the_bound_only() {
    run(async {
        let place = without_end(vec![b'x'; 4096]).await;
        let mut wire = Wire::open(&place, 10_000).await.expect("it is there");
        let long = wire.line(500).await.expect_err("it is too long");
        assert!(long.to_string().contains("longer than 500 bytes"), "{long}");
        let much = wire.exactly(1 << 40).await.expect_err("it is too much");
        assert!(much.to_string().contains("more than 10000 bytes"), "{much}");
    });
}

#[test]
fn nobody_there_is_said_with_the_place() {
    run(async {
        let place = Place::Unix("/nowhere/at/all".into());
        let gone = Wire::open(&place, 1).await.expect_err("nobody is there");
        assert!(gone.to_string().contains("/nowhere/at/all"), "{gone}");
    });
}

#[test]
fn what_is_shown_is_a_short_line() {
    assert_eq!(shown(b"a\nb\x1b[31m"), "a b [31m");
    assert_eq!(shown(&[b'x'; 5000]).chars().count(), 200);
}
