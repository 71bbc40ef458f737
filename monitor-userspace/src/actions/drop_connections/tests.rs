use super::*;

fn read(text: &str) -> Result<ConnectionFilter, String> {
    let with: toml::Table = toml::from_str(text).expect("it is TOML");
    super::super::settings::<Settings>(&with)?.filter()
}

#[test]
fn settings_say_which_are_meant() {
    let filter =
        read("peer = \"10.0.0.0/8\"\nlocal_port = 80\nstates = [\"close_wait\"]\nidle = \"5m\"");
    let filter = filter.expect("they are good");
    assert_eq!(
        filter.to_string(),
        "with 10.0.0.0/8, at its own port 80, that are close_wait, idle for 300s or more, at most 100"
    );
    assert_eq!(
        read("peer = \"fd00::1\"")
            .expect("it is good")
            .peer
            .map(|it| it.bits),
        Some(128)
    );
    assert_eq!(read("").expect("all of them").at_most, 100);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for (text, why) in [
        ("peer = \"example.org\"", "an address or a network"),
        ("peer = \"10.0.0.0/40\"", "an address or a network"),
        ("at_most = 0", "`at_most` must be 1"),
        ("states = [\"listen\"]", "unknown variant"),
        ("stat = []", "unknown field"),
        ("idle = \"5\"", "duration"),
    ] {
        let error = read(text).expect_err(text);
        assert!(error.contains(why), "{text}: {error}");
    }
}

fn connection(port: u16) -> Connection {
    Connection {
        local: ([10, 0, 0, 2], 80).into(),
        peer: ([10, 0, 0, 9], port).into(),
        state: TcpState::Established,
        idle: Duration::ZERO,
    }
}

#[test]
fn what_was_ended_is_listed_up_to_a_bound() {
    let ended: Vec<Connection> = (0..12).map(connection).collect();
    let dropped = |ended: Vec<Connection>, left| Dropped {
        ended,
        left,
        stopped: None,
    };
    let EffectResult::Done { detail } = result("web", &dropped(ended.clone(), 0)) else {
        panic!("it was done");
    };
    assert!(
        detail
            .starts_with("12 connections of web ended: 10.0.0.2:80 to 10.0.0.9:0 (established), ")
    );
    assert!(detail.ends_with(" and 2 more"), "{detail}");
    let EffectResult::Failed { reason } = result("web", &dropped(ended, 3)) else {
        panic!("three are left");
    };
    assert!(reason.ends_with("3 of them are still there"), "{reason}");
    let nothing = result("web", &dropped(Vec::new(), 0));
    assert!(matches!(nothing, EffectResult::Failed { .. }));
}
