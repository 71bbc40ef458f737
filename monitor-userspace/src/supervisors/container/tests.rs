use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};

use super::events::Word;
use super::*;

/// Started at second 1000 and ended at 2000, as all of these; seen 10 s later.
fn container(state: &str, more: &str) -> Container {
    let text = format!(
        r#"{{"State":{{"StartedAt":"1970-01-01T00:16:40Z","FinishedAt":"1970-01-01T00:33:20Z",{state}}}{more}}}"#
    );
    serde_json::from_str(&text).expect("it reads")
}

const SECOND: i64 = 1_000_000_000;

fn facts<'a>(container: &'a Container, word: &'a Word) -> Facts<'a> {
    Facts {
        container,
        podman: false,
        stopped_by_user: None,
        runs: false,
        listening: true,
        word,
        now: 2010 * SECOND,
    }
}

fn died() -> Word {
    Word {
        died: 2000 * SECOND,
        ..Word::default()
    }
}

fn fails(phase: &Result<Phase, String>, words: &str, given_up: bool) {
    match phase {
        Ok(Phase::Failed { why, gave_up }) => {
            assert!(why.contains(words) && *gave_up == given_up, "{phase:?}");
        }
        other => panic!("{other:?} instead of a failure: {words}"),
    }
}

#[test]
fn an_end_is_a_fault_unless_the_engine_was_asked_for_it() {
    let killed = container(r#""Status":"exited","ExitCode":137"#, "");
    fails(
        &facts(&killed, &died()).phase(),
        "by itself with exit code 137",
        false,
    );
    for signal in [9, 15] {
        let mut word = died();
        word.signals.insert(signal, 1999 * SECOND);
        assert_eq!(facts(&killed, &word).phase(), Ok(Phase::Stopped));
        // In an earlier life.
        word.signals.insert(signal, 999 * SECOND);
        fails(&facts(&killed, &word).phase(), "by itself", false);
    }
    let mut word = died();
    word.signals.insert(1, 1999 * SECOND);
    fails(&facts(&killed, &word).phase(), "by itself", false);
    let own = container(
        r#""Status":"exited","ExitCode":0"#,
        r#","Config":{"StopSignal":"SIGHUP"}"#,
    );
    assert_eq!(facts(&own, &word).phase(), Ok(Phase::Stopped));
    word.signals.clear();
    word.stopped = 2000 * SECOND;
    assert_eq!(facts(&killed, &word).phase(), Ok(Phase::Stopped));
    let lack = container(r#""Status":"exited","ExitCode":137,"OOMKilled":true"#, "");
    fails(&facts(&lack, &died()).phase(), "lack of memory", false);
}

#[test]
fn an_end_that_came_of_an_order_of_ours_to_start_it_anew_was_not_meant_to_last() {
    let killed = container(r#""Status":"exited","ExitCode":137"#, "");
    let mut word = died();
    word.signals.insert(15, 1999 * SECOND);
    word.stopped = 2000 * SECOND;
    let refused = |word: &mut Word, at| word.refused = Some((at * SECOND, "no port".to_owned()));
    refused(&mut word, 2001);
    fails(&facts(&killed, &word).phase(), "no port", false);
    let always = policy("always", 0, 0, 137);
    fails(&facts(&always, &word).phase(), "no port", true);
    // It ran on, and somebody stopped it later; or it was started since.
    for earlier in [1500, 999] {
        refused(&mut word, earlier);
        let phase = facts(&killed, &word).phase();
        assert_eq!(phase, Ok(Phase::Stopped), "{earlier}");
    }
}

#[test]
fn a_restart_that_fails_is_remembered_until_it_is_to_stop() {
    let engine = Engine::new("anew", |request, stream| match request {
        "GET /containers/web/json HTTP/1.1" => {
            let state = r#"{"State":{"Status":"exited","ExitCode":0,"StartedAt":"1970-01-01T00:16:40Z","FinishedAt":"1970-01-01T00:33:20Z"}}"#;
            send(stream, "200 OK", state)
        }
        "POST /containers/web/restart?t=3 HTTP/1.1" => {
            send(stream, "500 Oh", r#"{"message":"no port"}"#)
        }
        "POST /containers/web/stop?t=3 HTTP/1.1" => send(stream, "304 Not Modified", ""),
        _ => send(stream, "404 Not Found", "{}"),
    });
    let source = engine.source();
    let phase = || source.look("web").map_err(|error| error.to_string());
    let phase = || phase().map(|seen| seen.phase);
    let grace = Duration::from_secs(3);
    assert_eq!(phase(), Ok(Phase::Stopped));
    source.restart("web", grace).expect_err("it cannot");
    fails(&phase(), "no port", false);
    source.stop("web", grace).expect("it is told");
    assert_eq!(phase(), Ok(Phase::Stopped));
}

#[test]
fn what_nobody_told_of_is_judged_by_how_it_ended() {
    let word = Word::default();
    for (code, failed) in [
        (0, false),
        (143, false),
        (137, false),
        (1, true),
        (139, true),
    ] {
        let ended = container(&format!(r#""Status":"exited","ExitCode":{code}"#), "");
        let phase = facts(&ended, &word).phase();
        assert_eq!(
            matches!(phase, Ok(Phase::Failed { .. })),
            failed,
            "{code}: {phase:?}"
        );
        // The event may still be under way.
        let mut soon = facts(&ended, &word);
        soon.now = 2000 * SECOND + 1000;
        assert_eq!(soon.phase(), Ok(Phase::Stopping), "{code}");
    }
    let lack = container(r#""Status":"exited","ExitCode":137,"OOMKilled":true"#, "");
    fails(&facts(&lack, &word).phase(), "lack of memory", false);
}

#[test]
fn podman_says_it_itself_or_is_judged_by_the_end() {
    let (word, ended) = (died(), container(r#""Status":"exited","ExitCode":137"#, ""));
    let mut podman = facts(&ended, &word);
    podman.podman = true;
    assert_eq!(
        podman.phase(),
        Ok(Phase::Stopped),
        "before 4.7 it may have been stopped"
    );
    podman.stopped_by_user = Some(false);
    fails(&podman.phase(), "by itself", false);
    let crash = container(r#""Status":"exited","ExitCode":3"#, "");
    let mut podman = facts(&crash, &word);
    podman.podman = true;
    fails(&podman.phase(), "by itself", false);
    let mut word = died();
    word.unnamed = 1995 * SECOND;
    podman.word = &word;
    assert_eq!(podman.phase(), Ok(Phase::Stopped));
    podman.stopped_by_user = Some(true);
    let nothing = Word::default();
    podman.word = &nothing;
    assert_eq!(podman.phase(), Ok(Phase::Stopped));
}

fn policy(name: &str, most: i64, restarts: i64, code: i64) -> Container {
    container(
        &format!(r#""Status":"exited","ExitCode":{code}"#),
        &format!(
            r#","RestartCount":{restarts},"HostConfig":{{"RestartPolicy":{{"Name":"{name}","MaximumRetryCount":{most}}}}}"#
        ),
    )
}

#[test]
fn what_the_engine_starts_anew_is_left_to_it() {
    let word = died();
    let always = policy("always", 0, 2, 1);
    let mut soon = facts(&always, &word);
    soon.now = 2000 * SECOND + 1000;
    assert_eq!(soon.phase(), Ok(Phase::Stopping));
    let patience = |facts: &Facts<'_>| facts.healer().map(|healer| (healer.name, healer.patience));
    let of = |millis| Some(("docker".to_owned(), Duration::from_millis(millis)));
    assert_eq!(patience(&soon), of(10_400));
    assert_eq!(
        patience(&facts(&policy("unless-stopped", 0, 60, 1), &word)),
        of(70_000)
    );
    assert_eq!(patience(&facts(&policy("no", 0, 0, 1), &word)), None);
    let waits = container(r#""Status":"restarting""#, "");
    assert_eq!(facts(&waits, &word).phase(), Ok(Phase::Starting));
    fails(
        &facts(&always, &word).phase(),
        "has not started it anew",
        true,
    );
    fails(
        &facts(&policy("on-failure", 3, 3, 1), &word).phase(),
        "anew 3 times",
        true,
    );
    assert_eq!(
        facts(&policy("on-failure", 3, 0, 0), &word).phase(),
        Ok(Phase::Stopped)
    );
}

#[test]
fn one_that_the_engine_has_not_missed_yet_is_not_judged() {
    let (word, runs) = (
        Word::default(),
        container(r#""Status":"running","Pid":1"#, ""),
    );
    let mut facts = facts(&runs, &word);
    assert_eq!(facts.phase(), Ok(Phase::Stopping));
    facts.runs = true;
    assert_eq!(facts.phase(), Ok(Phase::Running));
    let odd = container(r#""Status":"dreaming""#, "");
    facts.container = &odd;
    assert!(facts.phase().is_err_and(|why| why.contains("dreaming")));
}

/// Answers like an engine, one request a connection; the thread ends with the test's process.
struct Engine(PathBuf);

impl Engine {
    fn new(name: &str, answer: fn(&str, &mut UnixStream) -> std::io::Result<()>) -> Self {
        let name = format!("smart-monitor-engine-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _old = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("it is ours");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || serve(stream, answer));
            }
        });
        Self(path)
    }

    fn source(&self) -> Containers {
        let containers = Containers {
            nudge: Nudge::new().expect("a file"),
            services: Mutex::default(),
            says_little: AtomicBool::new(false),
        };
        let with = format!("socket = {:?}", self.0.display().to_string());
        let with = with.parse().expect("it is TOML");
        containers.configure(&BTreeMap::from([("web".to_owned(), with)]));
        containers
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.0);
    }
}

fn serve(mut stream: UnixStream, answer: fn(&str, &mut UnixStream) -> std::io::Result<()>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a file"));
    let (mut request, mut line) = (String::new(), String::new());
    reader.read_line(&mut request).expect("a request");
    while reader.read_line(&mut line).is_ok_and(|length| length > 2) {
        line.clear();
    }
    // Whoever asked may have gone.
    let _gone = answer(request.trim(), &mut stream);
}

/// In chunks of a few bytes, as engines send it.
fn send(stream: &mut UnixStream, status: &str, body: &str) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {status}\r\ntransfer-encoding: chunked\r\n\r\n"
    )?;
    for part in body.as_bytes().chunks(7) {
        write!(stream, "{:x}\r\n", part.len())?;
        stream.write_all(part)?;
        write!(stream, "\r\n")?;
    }
    write!(stream, "0\r\n\r\n")
}

#[test]
fn an_engine_is_asked_and_told_in_its_own_words() {
    let engine = Engine::new("words", |request, stream| match request {
        "GET /containers/web/json HTTP/1.1" => {
            let pid = std::process::id();
            let body = format!(r#"{{"State":{{"Status":"running","Pid":{pid}}}}}"#);
            send(stream, "200 OK", &body)
        }
        "POST /containers/web/stop?t=3 HTTP/1.1" => send(stream, "304 Not Modified", ""),
        "POST /containers/web/start HTTP/1.1" => send(
            stream,
            "500 Oh",
            r#"{"message":"port is already allocated"}"#,
        ),
        _ => send(stream, "404 Not Found", "{}"),
    });
    let source = engine.source();
    let seen = source.look("web").expect("it answers");
    assert_eq!(
        (seen.phase, seen.process.map(|it| it.pid)),
        (Phase::Running, Some(std::process::id()))
    );
    source
        .stop("web", Duration::from_millis(2500))
        .expect("it is told");
    let error = source.start("web").expect_err("it cannot").to_string();
    assert!(
        error.contains("status 500: port is already allocated"),
        "{error}"
    );
    assert!(source.look("other").is_err());
}

#[test]
fn an_endless_answer_a_stall_and_rubbish_have_an_end() {
    type Answers = fn(&str, &mut UnixStream) -> std::io::Result<()>;
    let cases: [(&str, Answers); 3] = [
        ("endless", |_, stream| {
            write!(stream, "HTTP/1.1 200 OK\r\n\r\n")?;
            loop {
                stream.write_all(&[b' '; 4096])?;
            }
        }),
        ("rubbish", |_, stream| send(stream, "200 OK", "[1, 2")),
        ("stalls", |_, stream| {
            write!(stream, "HTTP/1.1 200 OK\r\n\r\n{{")?;
            // Until whoever asked goes.
            std::io::copy(stream, &mut std::io::sink()).map(|_| ())
        }),
    ];
    for ((name, answer), why) in cases.into_iter().zip([
        "more than 1048576 bytes",
        "makes no sense",
        "no answer within 2s",
    ]) {
        let engine = Engine::new(name, answer);
        let error = engine.source().look("web").expect_err(name).to_string();
        assert!(error.contains(why), "{name}: {error}");
    }
}

#[test]
fn a_kill_that_is_told_of_makes_an_end_meant() {
    let engine = Engine::new("events", |request, stream| {
        if request.starts_with("GET /events?since=") {
            let events = concat!(
                r#"{"Action":"exec_die","Actor":{"Attributes":{"name":"web"}},"timeNano":1}"#,
                "\n",
                "rubbish\n",
                r#"{"Action":"kill","Actor":{"Attributes":{"name":"web","signal":"15"}},"timeNano":1999000000000}"#,
                "\n",
                r#"{"Action":"die","Actor":{"Attributes":{"name":"web","exitCode":"3"}},"timeNano":2000000000000}"#,
                "\n",
            );
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{events}\r\n",
                events.len()
            )?;
            return std::io::copy(stream, &mut std::io::sink()).map(|_| ());
        }
        let state = r#"{"State":{"Status":"exited","ExitCode":3,"StartedAt":"1970-01-01T00:16:40Z","FinishedAt":"1970-01-01T00:33:20Z"}}"#;
        send(stream, "200 OK", state)
    });
    let source = engine.source();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while source.look("web").expect("it answers").phase != Phase::Stopped {
        assert!(
            std::time::Instant::now() < deadline,
            "the events are not heard"
        );
        std::thread::yield_now();
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let with = |text: &str| read("web", &text.parse().expect("it is TOML"));
    assert_eq!(with(""), Ok(vec!["web".to_owned()]));
    let named = with("name = \"shop\"\nsocket = \"/run/d.sock\"");
    assert_eq!(named, Ok(vec!["shop".to_owned(), "/run/d.sock".to_owned()]));
    for wrong in ["name = \"a/b\"", "socket = \"d.sock\"", "image = \"web\""] {
        assert!(with(wrong).is_err(), "{wrong}");
    }
}
