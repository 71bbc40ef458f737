use std::net::UdpSocket as Blocking;

use super::*;

fn check(text: &str) -> Result<Dns, String> {
    let read: Dns = toml::from_str(text).map_err(|why| why.to_string())?;
    read.sensible()
}

fn ask(check: &Dns, within: Duration) -> Option<Result<Answer, String>> {
    let building = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let asked = building
        .expect("a runtime")
        .block_on(async { tokio::time::timeout(within, check.question()).await.ok() });
    asked.map(|it| it.map_err(|failure| failure.to_string()))
}

/// Answers one question by these packets.
fn serve(answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = Blocking::bind("127.0.0.1:0").expect("a port");
    let at = socket.local_addr().expect("its address");
    std::thread::spawn(move || {
        let mut question = [0; 512];
        let (length, from) = socket.recv_from(&mut question).expect("a question");
        for packet in answer(&question[..length]) {
            let _ = socket.send_to(&packet, from);
        }
    });
    at
}

/// The question as an answer with this code, and these records behind it.
fn reply(question: &[u8], rcode: u8, count: u8, records: &[u8]) -> Vec<u8> {
    let mut answer = question.to_vec();
    answer[2] = 0x81;
    answer[3] = 0x80 | rcode;
    answer[7] = count;
    answer.extend_from_slice(records);
    answer
}

const ADDRESS: &[u8] = &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7];

fn asked(server: SocketAddr, more: &str) -> Result<Answer, String> {
    let check = check(&format!(
        "name = \"example.org\"\nserver = \"{server}\"\n{more}"
    ))
    .expect(more);
    ask(&check, Duration::from_secs(20)).expect("it ends")
}

#[test]
fn an_answer_is_read_and_compared() {
    let good = || serve(|question| vec![reply(question, 0, 1, ADDRESS)]);
    let answer = asked(good(), "expect = [\"192.0.2.7\"]").expect("it is well");
    assert_eq!(answer.said.as_deref(), Some("192.0.2.7"));
    let error = asked(good(), "expect = [\"192.0.2.8\"]").expect_err("another");
    assert!(
        error.contains("A of example.org is 192.0.2.7; 192.0.2.8 is not among them"),
        "{error}"
    );
    for (rcode, why) in [
        (2, "SERVFAIL"),
        (3, "no such name"),
        (5, "REFUSED"),
        (11, "code 11"),
    ] {
        let error = asked(
            serve(move |question| vec![reply(question, rcode, 0, &[])]),
            "",
        )
        .expect_err(why);
        assert!(error.contains(why), "{error}");
    }
    let error = asked(serve(|question| vec![reply(question, 0, 0, &[])]), "").expect_err("none");
    assert!(error.contains("no A record"), "{error}");
}

#[test]
fn rubbish_is_passed_over_or_told_and_always_ends() {
    // With a wrong number, too short, a question; then the answer.
    let at = serve(|question| {
        let mut wrong = reply(question, 0, 1, ADDRESS);
        wrong[0] ^= 0xff;
        vec![
            wrong,
            vec![1, 2, 3],
            question.to_vec(),
            vec![],
            reply(question, 0, 1, ADDRESS),
        ]
    });
    assert!(asked(at, "").is_ok());
    let error = asked(serve(|_| vec![vec![0xff; 600]; 70]), "");
    // One in 65536 of the numbers is the question's.
    let error = error.expect_err("rubbish");
    assert!(
        error.contains("none of which answers") || error.contains("cannot be read"),
        "{error}"
    );
    let circle: &[u8] = &[0xc0, 29, 0, 1];
    for (records, why) in [
        (circle, "does not end"),
        (
            &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 200, 1][..],
            "in the middle",
        ),
        (
            &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 3, 1, 2, 3][..],
            "not as its kind is",
        ),
        (&[][..], "does not end"),
    ] {
        let error = asked(
            serve(move |question| vec![reply(question, 0, 1, records)]),
            "",
        )
        .expect_err(why);
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn any_packet_is_read_to_an_end() {
    let question = question(7, "example.org", Kind::Txt).expect("a question");
    let mut state: u32 = 7;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    for round in 0..20_000 {
        let mut packet = reply(&question, 0, random(), ADDRESS);
        packet.extend((0..round % 64).map(|_| random()));
        let at = usize::from(random()) % packet.len();
        packet[at] = random();
        for kind in [Kind::Txt, Kind::A, Kind::Soa, Kind::Srv, Kind::Mx] {
            if let Ok(read) = Message::read(&packet, &question, kind) {
                assert!(read.records.iter().all(|it| it.len() < 4 * 512));
            }
        }
    }
}

#[test]
fn an_answer_that_does_not_fit_is_asked_for_over_tcp() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("its address");
    let socket = Blocking::bind(at).expect("the same port");
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        let mut buffer = [0; 512];
        let (length, from) = socket.recv_from(&mut buffer).expect("a question");
        let mut cut = reply(&buffer[..length], 0, 0, &[]);
        cut[2] |= 2;
        socket.send_to(&cut, from).expect("sent");
        let (mut stream, _) = listener.accept().expect("the question again");
        stream
            .read_exact(&mut buffer[..length + 2])
            .expect("all of it");
        let answer = reply(&buffer[2..length + 2], 0, 1, ADDRESS);
        let size = u16::try_from(answer.len()).expect("small").to_be_bytes();
        let _ = stream.write_all(&[&size, answer.as_slice()].concat());
    });
    assert!(asked(at, "expect = [\"192.0.2.7\"]").is_ok());
}

#[test]
fn who_is_silent_is_named_when_time_is_up() {
    let silent = Blocking::bind("127.0.0.1:0").expect("a port");
    let at = silent.local_addr().expect("its address");
    let check = check(&format!("name = \"example.org\"\nserver = \"{at}\"")).expect("it reads");
    assert!(ask(&check, Duration::from_millis(100)).is_none());
    let said = check.doing().expect("it says so");
    assert!(
        said.contains(&format!("answer of {at} about example.org")),
        "{said}"
    );
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for (text, why) in [
        ("name = \"1.2.3.4\"", "PTR"),
        ("name = \"a..b\"", "no name"),
        ("name = \"bücher.example\"", "no name"),
        ("name = \"a\"\nserver = \"dns.example\"", "not the address"),
        ("name = \"a\"\ntype = \"HINFO\"", "unknown variant"),
        ("name = \"a\"\nexpect = [\"b\"]", "no A record"),
    ] {
        let error = check(text).expect_err(text);
        assert!(error.contains(why), "{text}: {error}");
    }
    let reverse = check("name = \"192.0.2.7\"\ntype = \"PTR\"").expect("it reads");
    assert_eq!(reverse.name, "7.2.0.192.in-addr.arpa");
    let mail =
        check("name = \"a\"\ntype = \"MX\"\nexpect = [\"10 Mail.Example.\"]").expect("it reads");
    assert_eq!(mail.expect, ["10 mail.example"]);
}
