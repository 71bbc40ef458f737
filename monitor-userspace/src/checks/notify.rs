//! `notify = { watchdog = "10s" }`: the service says when it is ready, and then that it is alive, as `sd_notify(3)` has it.
//!
//! For services that the daemon starts: it gives each a socket, `NOTIFY_SOCKET` in its environment. Until `READY=1` has come the service
//! is starting, and that it does not come within `start_within` is a failed start. It asks for more time by `EXTEND_TIMEOUT_USEC`: nothing
//! is said against it until that is over. What it says in `STATUS=` is shown.

use std::time::Duration;

use serde::Deserialize;

use super::{About, Answer, Asking, Check, Settings, Spec, Turn, read};
use crate::config::units::Span;
use crate::host::clock;
use crate::host::notify::Notify as How;
use crate::host::notify::notices::{Began, Notice, Notices};
use crate::model::{CheckFailure, Time};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "notify",
    summary: "the service says when it is ready, and that it is alive (sd_notify)",
    serving: true,
    short: "watchdog",
    example: "notify = { watchdog = \"10s\" }",
    read: read::<Notify>,
};

/// How long a service that says `RELOADING=1` or `STOPPING=1` may take for it, unless it asks for more.
const AT_IT: Duration = Duration::from_secs(90);
/// How often a service that is not ready yet is said to be so.
const LOOK: Duration = Duration::from_secs(1);
/// A daemon that stood still has this long to read what was said meanwhile, before it says that a service hangs.
const SECOND_LOOK: Duration = Duration::from_millis(200);

/// `notify = { ... }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Notify {
    /// The longest time between two signs of life (`WATCHDOG=1`); it need not give any when none.
    watchdog: Option<Span>,
}

impl Settings for Notify {
    fn sensible(self) -> Result<Self, String> {
        let good = Duration::from_millis(100)..=Duration::from_hours(1);
        match self.watchdog {
            Some(time) if !good.contains(&time.0) => {
                Err("`watchdog` is 100ms to 1h; leave it out for none".to_owned())
            }
            _ => Ok(self),
        }
    }
}

impl Check for Notify {
    fn notify(&self) -> Option<How> {
        Some(How {
            watchdog: self.watchdog.map(|time| time.0),
        })
    }

    /// What it says counts at once; and a missed sign of life is to be seen soon after it is missed.
    fn usual(&self) -> toml::Table {
        let watchdog = self.watchdog.map_or(LOOK, |time| time.0);
        let (least, most) = (Duration::from_millis(50), LOOK);
        let interval = (watchdog / 8).clamp(least, most).as_millis();
        toml::Table::from_iter([
            ("interval".to_owned(), format!("{interval}ms").into()),
            ("failures".to_owned(), 1.into()),
        ])
    }

    /// While it starts: until it is ready, or the time that it has asked for is over.
    fn turn<'a>(&'a self, about: &'a About) -> Turn<'a> {
        Box::pin(async move {
            loop {
                let Some((notice, mut news)) = about.tools.notices.of(&about.service) else {
                    return;
                };
                if notice.ready.is_some() {
                    return;
                }
                let asked_for = notice.until.map(|until| until.since(clock::now()));
                let asked_for = asked_for.filter(|left| !left.is_zero());
                let waited = tokio::time::timeout(asked_for.unwrap_or(LOOK), news.changed()).await;
                if waited.is_err() {
                    return;
                }
            }
        })
    }

    fn ask<'a>(&'a self, about: &'a About) -> Asking<'a> {
        Box::pin(self.look(&about.tools.notices, &about.service))
    }
}

impl Notify {
    async fn look(&self, notices: &Notices, service: &str) -> Result<Answer, CheckFailure> {
        let heard = || {
            let notice = notices.of(service).map(|(notice, _)| notice);
            let why = "it has no socket to say anything to";
            notice.ok_or_else(|| CheckFailure::Answer(why.to_owned()))
        };
        let notice = heard()?;
        let judged = self.judge(clock::now(), &notice);
        if judged.is_ok() || notice.ready.is_none() {
            return judged;
        }
        tokio::time::sleep(SECOND_LOOK).await;
        self.judge(clock::now(), &heard()?)
    }

    fn judge(&self, now: Time, notice: &Notice) -> Result<Answer, CheckFailure> {
        let wrong = |why: String| Err(CheckFailure::Answer(with_words(&why, notice)));
        if notice.began == Began::Deaf {
            let why = "it was started before it had a socket: it is asked from its next start on";
            return Ok(Answer::well().saying(why));
        }
        let Some(ready) = notice.ready else {
            let since = span(now.since(notice.since));
            let refused = match notice.refused {
                0 => String::new(),
                some => format!(", and {some} datagrams were refused: see the daemon's log"),
            };
            return wrong(format!(
                "it has not said READY=1 in the {since} since it started{refused}"
            ));
        };
        let mut answer = Answer::well();
        let at_it = [
            (notice.stopping, "STOPPING=1", "it stops"),
            (
                notice.reloading,
                "RELOADING=1",
                "it reads its configuration again",
            ),
        ];
        for (since, word, what) in at_it {
            let Some(since) = since else { continue };
            let until = since.after(AT_IT).max(notice.until.unwrap_or(since));
            if now > until {
                let ago = span(now.since(since));
                return wrong(format!(
                    "it said {word} {ago} ago, and is not done; {} is what it has, unless it asks for more",
                    span(AT_IT)
                ));
            }
            return Ok(answer.saying(with_words(what, notice)));
        }
        if notice.hangs {
            return wrong("it says of itself that it hangs (WATCHDOG=trigger)".to_owned());
        }
        if let Some(watchdog) = self.watchdog {
            let limit = notice.watchdog.unwrap_or(watchdog.0);
            let age = now.since(notice.alive.map_or(ready, |alive| alive.max(ready)));
            if age > limit {
                let what = match notice.alive {
                    Some(_) => "its last sign of life (WATCHDOG=1) came",
                    None => "it has given no sign of life (WATCHDOG=1) since the daemon listens,",
                };
                return wrong(format!(
                    "{what} {} ago, and it was to give one every {}: it hangs",
                    span(age),
                    span(limit)
                ));
            }
            answer = answer.took("keep_alive_age", age);
        }
        if notice.refused > 0 {
            answer = answer.with("datagrams_refused", as_number(notice.refused));
        }
        Ok(answer.saying(with_words("ready", notice)))
    }
}

/// What the service itself says belongs to it.
fn with_words(what: &str, notice: &Notice) -> String {
    let errno = notice.errno.filter(|errno| *errno > 0);
    let errno = errno.map(|errno| format!(" ({})", std::io::Error::from_raw_os_error(errno)));
    let says = notice.status.as_ref();
    let says = says.map(|says| format!("; it says: {says}"));
    format!(
        "{what}{}{}",
        says.unwrap_or_default(),
        errno.unwrap_or_default()
    )
}

#[expect(clippy::cast_precision_loss, reason = "53 bits are enough to show it")]
fn as_number(count: u64) -> f64 {
    count as f64
}

fn span(time: Duration) -> Span {
    if time < Duration::from_secs(10) {
        Span::millis(u64::try_from(time.as_millis()).unwrap_or(0))
    } else {
        Span::seconds(time.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::notify::Said;

    fn at(second: i64) -> Time {
        Time::from_nanos(second * 1_000_000_000)
    }

    fn settings(text: &str) -> Result<Notify, String> {
        let read = toml::from_str::<Notify>(text).map_err(|error| error.to_string());
        read?.sensible()
    }

    /// What was said at which second, of a service that was started at 0.
    fn judged(check: &str, began: Began, said: &[(i64, &str)], now: i64) -> Result<String, String> {
        let notices = Notices::default();
        notices.begin("shop", began, at(0));
        for (second, text) in said {
            let said = Said::read(text.as_bytes()).expect("it reads");
            notices.take("shop", &said, at(*second));
        }
        let (notice, _) = notices.of("shop").expect("it is listened to");
        let judged = settings(check)
            .expect("it makes sense")
            .judge(at(now), &notice);
        judged
            .map(|answer| answer.said.unwrap_or_default())
            .map_err(|failure| failure.to_string())
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["watchdog = \"0s\"", "watchdog = \"2h\"", "ready = true"] {
            assert!(settings(text).is_err(), "{text}");
        }
    }

    #[test]
    fn it_is_ready_when_it_says_so() {
        let early = judged("", Began::Started, &[(1, "STATUS=loading")], 30);
        let early = early.expect_err("it is not ready");
        assert!(
            early.contains("not said READY=1 in the 30s since it started; it says: loading"),
            "{early}"
        );
        let ready = [(1, "STATUS=loading"), (4, "READY=1\nSTATUS=5 users")];
        let well = judged("", Began::Started, &ready, 9999).expect("it is ready");
        assert_eq!(well, "ready; it says: 5 users");
        assert!(judged("", Began::Found, &[], 9999).is_ok());
    }

    #[test]
    fn a_missed_sign_of_life_is_a_hang() {
        let check = "watchdog = \"10s\"";
        let said = [(1, "READY=1"), (8, "WATCHDOG=1")];
        assert!(judged(check, Began::Started, &said, 18).is_ok());
        let hangs = judged(check, Began::Started, &said, 19).expect_err("it hangs");
        assert!(hangs.contains("came 11s ago"), "{hangs}");
        let hangs = judged(check, Began::Found, &[], 11).expect_err("it hangs");
        assert!(hangs.contains("since the daemon listens"), "{hangs}");
        assert!(
            judged(check, Began::Deaf, &[], 99).is_ok(),
            "it cannot know"
        );
        let longer = [(1, "READY=1\nWATCHDOG_USEC=30000000")];
        assert!(judged(check, Began::Started, &longer, 30).is_ok());
        let itself = [(1, "READY=1"), (2, "WATCHDOG=trigger")];
        assert!(judged(check, Began::Started, &itself, 3).is_err());
        let failing = [(1, "READY=1"), (2, "WATCHDOG=trigger\nERRNO=5")];
        let why = judged(check, Began::Started, &failing, 3).expect_err("it says so");
        assert!(why.contains("Input/output error"), "{why}");
    }

    #[test]
    fn what_a_stalled_daemon_has_not_read_yet_counts() {
        let notices = Notices::default();
        let long_ago = clock::now().before(Duration::from_secs(30));
        let check = settings("watchdog = \"10s\"").expect("it makes sense");
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().expect("it is made");
        for (said, well) in [("WATCHDOG=1", true), ("STATUS=stuck", false)] {
            notices.begin("shop", Began::Found, long_ago);
            let said = Said::read(said.as_bytes()).expect("it reads");
            // It is read after the first look, which is polled first.
            let (judged, ()) = runtime.block_on(async {
                let read = async { notices.take("shop", &said, clock::now()) };
                tokio::join!(biased; check.look(&notices, "shop"), read)
            });
            assert_eq!(judged.is_ok(), well, "{judged:?}");
        }
    }

    #[test]
    fn what_it_is_at_takes_its_time_and_not_for_ever() {
        let check = "watchdog = \"10s\"";
        for word in ["RELOADING=1", "STOPPING=1"] {
            let said = [(1, "READY=1"), (100, word)];
            assert!(judged(check, Began::Started, &said, 190).is_ok(), "{word}");
            let why = judged(check, Began::Started, &said, 191).expect_err(word);
            assert!(why.contains("is not done"), "{why}");
            let more = [
                (1, "READY=1"),
                (100, word),
                (150, "EXTEND_TIMEOUT_USEC=100000000"),
            ];
            assert!(judged(check, Began::Started, &more, 249).is_ok(), "{word}");
            assert!(judged(check, Began::Started, &more, 251).is_err(), "{word}");
        }
        let done = [(1, "READY=1"), (100, "RELOADING=1"), (101, "READY=1")];
        assert!(judged(check, Began::Started, &done, 105).is_ok());
        assert!(judged(check, Began::Started, &done, 112).is_err());
    }
}
