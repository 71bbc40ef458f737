use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::*;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn run<T>(future: impl Future<Output = T>) -> T {
    let building = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    building.expect("a runtime").block_on(async {
        tokio::time::timeout(PATIENCE, future)
            .await
            .expect("it ends")
    })
}

/// Answers as many connections as this, each by this.
fn serve(count: usize, answer: impl Fn(&str, &mut TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for _ in 0..count {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0)
            {
                head.push(byte[0]);
            }
            answer(&String::from_utf8_lossy(&head), &mut stream);
        }
    });
    at
}

fn says(text: &'static str) -> SocketAddr {
    serve(1, move |_, stream| {
        let _ = stream.write_all(text.as_bytes());
    })
}

fn check(text: &str) -> Result<Http, String> {
    let read: Http = toml::from_str(text).map_err(|why| why.to_string())?;
    read.sensible()
}

fn ask(text: &str) -> Result<Answer, String> {
    run(check(text).expect(text).follow(None)).map_err(|failure| failure.to_string())
}

fn well(text: &str) -> String {
    ask(text).expect(text).said.expect("words")
}

fn fails(text: &str, why: &str) {
    let error = ask(text).expect_err(why);
    assert!(error.contains(why), "{error}");
}

/// What this process has in memory, in KiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("it reads");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("a line");
    line.trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number")
}

#[test]
fn answers_are_read_to_their_end_and_judged() {
    let at = says("HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"status\":\"ok\"}more");
    let answer = ask(&format!(
        "url = \"http://{at}/\"\njson = {{ path = \"status\", equals = \"ok\" }}"
    ));
    let answer = answer.expect("it is well");
    let figures: Vec<&str> = answer.figures.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(
        figures,
        [
            "status",
            "connect_seconds",
            "first_byte_seconds",
            "total_seconds"
        ]
    );
    let at = says(
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 102 P\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nrea\r\n2\r\ndy\r\n0\r\n\r\n",
    );
    assert_eq!(
        well(&format!("url = \"http://{at}/\"\nbody = \"ready\"")),
        "status 200"
    );
    let at = says("HTTP/1.0 503 Busy\r\n\r\nsorry");
    fails(
        &format!("url = \"http://{at}/\""),
        "status 503; expected 200 to 399",
    );
    let at = says("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nshort");
    fails(
        &format!("url = \"http://{at}/\""),
        "in the middle of the body, after 5 bytes",
    );
    fails(
        &format!("url = \"http://{}/\"", says("SSH-2.0-OpenSSH\r\n")),
        "does not speak HTTP",
    );
    fails(
        &format!("url = \"http://{}/\"", says("")),
        "closed without an answer",
    );
    fails(
        &format!(
            "url = \"http://{}/\"",
            says("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n")
        ),
        "content-length is `-1`",
    );
}

#[test]
fn redirects_are_followed_only_when_asked_and_never_for_ever() {
    let around = || {
        serve(6, |_, stream| {
            let _ = stream
                .write_all(b"HTTP/1.1 302 Found\r\nlocation: /again\r\ncontent-length: 0\r\n\r\n");
        })
    };
    assert_eq!(
        well(&format!("url = \"http://{}/\"", around())),
        "status 302"
    );
    fails(
        &format!("url = \"http://{}/\"\nredirects = 5", around()),
        "more than 5 redirects",
    );
    fails(
        &format!("url = \"http://{}/\"\nstatus = 200", around()),
        "a redirect to http://127.0.0.1",
    );
    let file =
        says("HTTP/1.1 302 Found\r\nlocation: file:///etc/passwd\r\ncontent-length: 0\r\n\r\n");
    fails(
        &format!("url = \"http://{file}/\"\nredirects = 5"),
        "only http and https",
    );
    // What is secret stays with whom it is for.
    let other = serve(1, |head, stream| {
        let status = if head.contains("x-token") { 500 } else { 200 };
        let _ = write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
    });
    let first = serve(1, move |head, stream| {
        assert!(head.contains("x-token: is /"), "{head}");
        let _ = write!(
            stream,
            "HTTP/1.1 303 X\r\nlocation: http://{other}/\r\ncontent-length: 0\r\n\r\n"
        );
    });
    let said = well(&format!(
        "url = \"http://{first}/\"\nredirects = 1\nheaders = {{ x-token = {{ env = \"PATH\", prefix = \"is \" }} }}"
    ));
    assert_eq!(said, format!("status 200 from http://{other}/"));
}

#[test]
fn what_does_not_end_takes_little_memory_and_a_clear_reason() {
    let endless = |begin: &'static str, piece: &'static [u8]| {
        serve(1, move |_, stream| {
            let _ = stream.write_all(begin.as_bytes());
            // A GiB, if it is taken.
            for _ in 0..(1 << 30) / piece.len() {
                if stream.write_all(piece).is_err() {
                    break;
                }
            }
        })
    };
    let before = resident();
    let body = endless("HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 16000]);
    fails(
        &format!("url = \"http://{body}/\"\nbody = \"ready\""),
        "not in the 1048576 bytes of its body, of which no more is read",
    );
    let body = endless("HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 16000]);
    assert_eq!(
        well(&format!("url = \"http://{body}/\"")),
        "status 200, of its body the first 1 MiB was read"
    );
    let headers = endless("HTTP/1.1 200 OK\r\n", &[b'h'; 16000]);
    fails(
        &format!("url = \"http://{headers}/\""),
        "headers do not end",
    );
    let many = endless("HTTP/1.1 200 OK\r\n", b"a: b\r\n");
    fails(&format!("url = \"http://{many}/\""), "more than 96 headers");
    let grown = resident().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB more");
}

#[test]
fn a_check_that_is_over_says_where_it_was() {
    let stuck = |text: &str, within: u64| {
        let http = check(text).expect(text);
        let asked = run(async {
            tokio::time::timeout(Duration::from_millis(within), http.follow(None)).await
        });
        assert!(asked.is_err(), "{text}: {asked:?}");
        http.doing().expect("it says so")
    };
    // Bound and listening, and never accepted.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = silent.local_addr().expect("its address");
    let said = stuck(&format!("url = \"http://{at}/\""), 200);
    assert!(
        said.contains("the request was sent, not a byte came back"),
        "{said}"
    );
    let said = stuck(&format!("url = \"https://{at}/\"\ninsecure = true"), 200);
    assert!(
        said.contains("in the TLS handshake with 127.0.0.1"),
        "{said}"
    );
}

/// A server of TLS with this certificate, for one client.
fn secure(certificate: &[u8], key: &[u8]) -> SocketAddr {
    let chain = vec![CertificateDer::from_pem_slice(certificate).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(key).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they fit");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        let (socket, _) = listener.accept().expect("a client");
        let connection = rustls::ServerConnection::new(Arc::new(config)).expect("a connection");
        let mut stream = rustls::StreamOwned::new(connection, socket);
        let mut request = [0; 1024];
        // Who does not trust it hangs up.
        if stream.read(&mut request).is_ok() {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            let _ = stream.flush();
        }
    });
    at
}

macro_rules! pair {
    ($name:literal) => {
        secure(
            include_bytes!(concat!("../shared/net/fixtures/", $name, ".pem")),
            include_bytes!(concat!("../shared/net/fixtures/", $name, ".key.pem")),
        )
    };
}

#[test]
fn a_certificate_is_trusted_or_the_reason_is_said() {
    let ca = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/checks/shared/net/fixtures/ca.pem"
    );
    let with = |at: SocketAddr, host: &str, more: &str| {
        let port = at.port();
        format!("url = \"https://{host}:{port}/\"\nconnect_to = \"{at}\"\n{more}")
    };
    let trusting = format!("ca_file = \"{ca}\"\n");
    let answer = ask(&with(pair!("good"), "www.good.test", &trusting)).expect("it is trusted");
    let days = answer
        .figures
        .iter()
        .find(|it| it.name == "certificate_days")
        .expect("a figure");
    assert!(days.value() > 10_000.0, "{days:?}");
    assert!(answer.figures.iter().any(|it| it.name == "tls_seconds"));
    well(&with(pair!("good"), "127.0.0.1", &trusting));
    fails(
        &with(pair!("good"), "other.test", &trusting),
        "not for other.test, it is for good.test, www.good.test, 127.0.0.1",
    );
    well(&with(
        pair!("good"),
        "other.test",
        &format!("{trusting}server_name = \"good.test\""),
    ));
    fails(
        &with(pair!("expired"), "expired.test", &trusting),
        "expired.test expired on 2021-03-01",
    );
    fails(
        &with(pair!("self"), "self.test", &trusting),
        "signed by itself",
    );
    // Nobody of the host's list made it.
    fails(
        &with(pair!("good"), "good.test", ""),
        "made by `Test CA`, who is not trusted",
    );
    well(&with(pair!("self"), "self.test", "insecure = true"));
    fails(
        &with(
            pair!("good"),
            "good.test",
            &format!("{trusting}certificate_days = 1000000"),
        ),
        "at least 1000000 days were expected",
    );
    // It speaks first, and without TLS.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let plain = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        // Until the client hangs up.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    fails(&with(plain, "good.test", &trusting), "does not speak TLS");
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for (text, why) in [
        ("url = \"http://h/\"\nmethod = \"get\"", "no method"),
        ("url = \"http://h/\"\nredirects = 21", "at most 20"),
        ("url = \"http://h/\"\ninsecure = true", "for https"),
        (
            "url = \"http://h/\"\nmethod = \"HEAD\"\nbody = \"x\"",
            "no body",
        ),
        (
            "url = \"http://h/\"\nheaders = { \"a b\" = \"x\" }",
            "name of a header",
        ),
        (
            "url = \"http://h/\"\nheaders = { a = \"x\\r\\nb: c\" }",
            "end of a line",
        ),
        (
            "url = \"http://h/\"\nheaders = { connection = \"x\" }",
            "check's own",
        ),
        (
            "url = \"http://h/\"\nheaders = { a = { file = \"/x\", env = \"Y\" } }",
            "{ file",
        ),
        (
            "url = \"https://h/\"\nserver_name = \"a b\"",
            "name in a certificate",
        ),
        ("url = \"http://h/\"\nbodies = 1", "unknown field"),
    ] {
        let error = check(text).expect_err(text);
        assert!(error.contains(why), "{text}: {error}");
    }
}

/// A server that answers so many requests on a connection, then closes it, and counts its connections.
fn keeps(most: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("its address");
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a client");
            counted.fetch_add(1, Ordering::SeqCst);
            for _ in 0..most {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n")
                    && stream.read(&mut byte).is_ok_and(|read| read > 0)
                {
                    head.push(byte[0]);
                }
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                if head.is_empty() || stream.write_all(answer).is_err() {
                    break;
                }
            }
        }
    });
    (at, connections)
}

#[test]
fn a_connection_is_used_again_and_made_anew_when_the_server_has_closed_it() {
    let (at, connections) = keeps(3);
    let text = format!("url = \"http://{at}/\"\nkeep_alive = true\nbody = \"ok\"");
    let check = check(&text).expect("it is sensible");
    run(async {
        for request in 0..6 {
            check.follow(None).await.expect("an answer");
            assert_eq!(connections.load(Ordering::SeqCst), request / 3 + 1);
        }
    });
}

#[test]
fn a_connection_is_made_anew_after_some_requests() {
    let (at, connections) = keeps(usize::MAX);
    let check = check(&format!("url = \"http://{at}/\"\nkeep_alive = true"));
    let check = check.expect("it is sensible");
    run(async {
        for _ in 0..61 {
            check.follow(None).await.expect("an answer");
        }
    });
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[test]
fn a_connection_is_not_kept_where_that_would_hide_something() {
    for wrong in [
        "url = \"https://127.0.0.1/\"\nkeep_alive = true",
        "url = \"http://127.0.0.1/\"\nkeep_alive = true\nmethod = \"POST\"",
    ] {
        let error = check(wrong).expect_err("it is refused");
        assert!(error.contains("keep_alive"), "{error}");
    }
}
