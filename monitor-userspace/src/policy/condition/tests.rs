use super::kind::Kind;
use super::variables::{EVIDENCE, FIELDS};
use super::*;
use crate::model::{Evidence, HostLoad, IncidentId, ProcessKey, Service, Severity, Subject};

const SECOND: i64 = 1_000_000_000;
/// 2026-03-06, a Friday, 14:45:10 UTC.
const WALL: i64 = 1_772_808_310 * SECOND;

fn now() -> Time {
    Time::from_nanos(1_000 * SECOND)
}

fn incident(subject: Subject) -> Incident {
    let evidence = Evidence::at(now())
        .fact("killed by", "kernel")
        .fact("port", 8080);
    let opened = Time::from_nanos(970 * SECOND);
    let (id, severity) = (IncidentId(1), Severity::Critical);
    let mut incident = Incident::new(id, "service_down", subject, severity, evidence, opened);
    incident.actions = 2;
    incident.tries = 1;
    incident
}

fn world() -> World {
    let mut web = Service::new("web");
    web.process = Some(ProcessKey {
        pid: 7,
        start_ticks: 9,
    });
    web.started = Some(Time::from_nanos(400 * SECOND));
    web.answers = Some(true);
    web.starts = 3;
    World {
        services: [web].into_iter().collect(),
        wall_ahead: Some(WALL - now().nanos()),
        load: Some(HostLoad {
            cpus: 4,
            load1: 150,
            cpu_some: 8_950,
            ..HostLoad::default()
        }),
        ..World::default()
    }
}

fn ask(text: &str, incident: &Incident, world: &World) -> Result<bool, String> {
    let condition = Condition::compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    condition.holds(incident, world, now())
}

fn holds(text: &str) -> Result<bool, String> {
    ask(text, &incident(Subject::service("web")), &world())
}

fn refused(text: &str) -> String {
    match Condition::compile(text) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{text} is taken"),
    }
}

#[test]
fn every_variable_has_the_value_that_is_documented() {
    for text in [
        r#"incident.detector == "service_down""#,
        r#"incident.category == "service""#,
        r#"incident.severity == "critical""#,
        r#"incident.subject == "service web""#,
        r#"incident.name == "web""#,
        "incident.age == 30.0",
        "incident.age > 29",
        "incident.actions == 2 && incident.tries == 1 && incident.flaps == 0",
        r#"service.name == "web" && service.running && service.answers"#,
        "service.uptime == 600.0 && service.starts == 3 && service.memory_max == 0",
        "host.load1 == 1.5 && host.cpus == 4.0 && host.cpu_some == 89.5",
        "host.load1 / host.cpus < 1.0",
        "host.memory_some + host.memory_full + host.io_some + host.io_full == 0.0",
        "time.known && time.hour == 14 && time.minute == 45 && time.weekday == 5",
        r#"evidence["killed by"] == "kernel" && evidence.port == "8080""#,
        r#""killed by" in evidence && !("victim" in evidence) && has(evidence.port)"#,
        "int(evidence.port) > 8000 && size(evidence) == 2",
        r#"incident.name in ["api", "web"] && !(time.weekday in [6, 7])"#,
        r#"incident.name.matches("^w[a-z]+$") && !incident.name.matches("\\d")"#,
        r#"incident.name.startsWith("w") && incident.name.endsWith("b")"#,
        r#"evidence.exists(key, key.contains("kill")) && [1, 2].all(n, n < 3)"#,
        "has(service.name) ? service.running : false",
        "incident.tries < 2 && host.cpu_some < 90.0",
    ] {
        assert_eq!(holds(text), Ok(true), "{text}");
    }
    assert_eq!(holds("incident.tries > 1"), Ok(false));
}

#[test]
fn every_variable_has_its_type_and_its_line_in_the_documents() {
    let documents = include_str!("../../../../docs/configuration.md");
    for field in FIELDS {
        let path = format!("{}.{}", field.root, field.name);
        let text = match field.kind {
            Kind::Bool => format!("{path} || !{path}"),
            Kind::Int => format!("{path} % 2 >= -1"),
            Kind::Double => format!("{path} * 2.0 >= 0.0"),
            _ => format!("size({path}) > 0"),
        };
        assert_eq!(holds(&text), Ok(true), "{text}");
        assert!(documents.contains(&format!("| `{path}` |")), "{path}");
    }
    assert!(documents.contains(&format!("| `{EVIDENCE}` |")));
}

#[test]
fn the_conditions_of_the_documents_are_in_order() {
    let documents = include_str!("../../../../docs/configuration.md");
    let lines = documents.lines();
    let written: Vec<&str> = lines
        .filter_map(|line| line.strip_prefix("when = '"))
        .filter_map(|line| line.split('\'').next())
        .collect();
    assert!(written.len() >= 3, "{written:?}");
    for text in written {
        let compiled = Condition::compile(text);
        assert!(compiled.is_ok(), "{text}: {compiled:?}");
    }
}

#[test]
fn what_is_not_known_is_an_error_in_words() {
    let process = Subject::Process {
        process: ProcessKey {
            pid: 7,
            start_ticks: 9,
        },
        comm: "convert".to_owned(),
        group: Some("thumbnails".to_owned()),
    };
    let (incident, nothing) = (incident(process), World::default());
    for (text, missing) in [
        ("service.running", "running"),
        ("host.cpu_some < 90.0", "cpu_some"),
        ("time.hour < 6", "hour"),
        ("evidence.victim == \"x\"", "victim"),
        ("evidence[\"who knows\"] == \"x\"", "who knows"),
    ] {
        let error = ask(text, &incident, &nothing).expect_err(text);
        let expected = format!("there is no `{missing}` now");
        assert!(error.contains(&expected), "{text}: {error}");
        assert!(error.contains(text), "{error}");
    }
    assert_eq!(ask("has(service.name)", &incident, &nothing), Ok(false));
    assert_eq!(ask("time.known", &incident, &nothing), Ok(false));
    let name = r#"incident.name == "thumbnails""#;
    assert_eq!(ask(name, &incident, &nothing), Ok(true));
    for (text, why) in [
        ("100 / incident.flaps > 1", "divides by zero"),
        ("int(evidence[\"killed by\"]) > 1", "int: "),
        ("[1][incident.tries] == 1", "a list is shorter"),
        (
            "9223372036854775807 + incident.tries > 1",
            "grows too large",
        ),
    ] {
        let error = ask(text, &incident, &nothing).expect_err(text);
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn mistakes_are_found_when_it_is_read() {
    for (text, expected) in [
        ("", "it is empty"),
        ("incident.tries <", "line 1, column 17: "),
        (
            "incidnt.tries < 2",
            "line 1, column 1: there is no variable `incidnt`; did you mean `incident`?",
        ),
        (
            "true &&\n host.cpu_som < 2.0",
            "line 2, column 7: `host` has no field `cpu_som`; did you mean `host.cpu_some`?",
        ),
        (
            "incident.colour == \"red\"",
            "`incident` has no field `colour`; it has detector, category",
        ),
        ("incident == 2", "`incident` is no value by itself"),
        (
            "incident.severity == \"critcal\"",
            "`incident.severity` is never `critcal`; it is one of warning, critical",
        ),
        ("incident.severity in [\"critcal\"]", "is never `critcal`"),
        (
            "incident.tries",
            "its result is a whole number, and must be true or false",
        ),
        ("evidence.x", "its result is a text"),
        (
            "incident.tries < \"2\"",
            "`<` does not go with `incident.tries` (a whole number) and `2` (a text)",
        ),
        ("incident.tries == \"2\"", "`==` does not go with"),
        ("incident.age / 2 > 1.0", "write `2.0` for 2"),
        (
            "incident.tries && true",
            "`incident.tries` (a whole number) stands where true or false is wanted",
        ),
        (
            "evidence.port > 80",
            "`int(...)` and `double(...)` read one",
        ),
        ("has(incident.name)", "says nothing"),
        ("has(evidence)", "invalid argument to has() macro"),
        (
            "service.name.size",
            "what `.size` stands after has no fields",
        ),
        (
            "incident.name.beginsWith(\"w\")",
            "there is no function `beginsWith`",
        ),
        (
            "incident.name.startswith(\"w\")",
            "did you mean `startsWith`?",
        ),
        (
            "incident.name.startsWith(2)",
            "`2` (a whole number) stands where a text is wanted",
        ),
        ("now() > 2", "there is no function `now`"),
        (
            "type(incident.name) == string",
            "there is no function `type`",
        ),
        (
            "optional.of(1).hasValue()",
            "there is no function `hasValue`",
        ),
        ("incident.name.matches(evidence.x)", "must be written out"),
        (
            "incident.name.matches(\"(\")",
            "the pattern `(` does not read: unclosed group",
        ),
        (
            "incident.name.matches(\"(a{1000}){1000}\")",
            "does not read",
        ),
        ("{\"a\": 1} == {\"a\": 1}", "`{` has no meaning"),
        ("Place{x: 1} == 2", "`{` has no meaning"),
        ("1u < 2u", "leave out the `u`"),
        ("evidence.x != null", "nothing here is ever `null`"),
        ("[1, \"a\"].all(x, true)", "a list has both"),
        ("[1].all(host, true)", "`host` has a meaning already"),
        ("[[1]].all(x, [2].all(y, true))", "not within each other"),
        (
            "[1].all(x, true) && [1].all(x, true) && [1].all(x, true)",
            "2 times in all",
        ),
        ("incident.name.all(x, true)", "a text has no elements"),
    ] {
        let error = refused(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn what_would_take_long_or_deep_is_refused() {
    let long = format!("incident.name == \"{}\"", "x".repeat(LONGEST));
    assert!(refused(&long).contains("of 1024 at most"));
    let brackets = |count| format!("{}0{} == 0", "(0+".repeat(count), ")".repeat(count));
    assert_eq!(holds(&brackets(23)), Ok(true));
    assert!(refused(&brackets(24)).contains("more than 24 operators"));
    for opening in ["(0+", "[", "size("] {
        assert!(refused(&opening.repeat(200)).contains("limit exceeded: 24"));
    }
    let sum = |terms| format!("{} == 0", vec!["0"; terms].join("+"));
    assert_eq!(holds(&sum(20)), Ok(true));
    assert!(refused(&sum(400)).contains("more than 24 operators"));
    let list = format!("{} in [{}]", 1, vec!["1"; 65].join(","));
    assert!(refused(&list).contains("more than 64 elements"));
    // `&&` is put together as a tree of little depth.
    assert_eq!(holds(&vec!["true"; 120].join("&&")), Ok(true));
    for (sign, end) in [("!-", "1"), ("- ", "true"), ("true?", "1")] {
        let text = sign.repeat(201) + end;
        assert!(Condition::compile(&text).is_err(), "{text}");
    }
}

/// A generator of numbers that need not be random, only various (xorshift).
struct Various(u64);

impl Various {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).expect("it is small")
    }
}

const PIECES: &[&str] = &[
    "incident.tries",
    "incident.age",
    "incident.name",
    "incident.severity",
    "evidence",
    "evidence.port",
    "service.running",
    "service",
    "host.cpu_some",
    "time.hour",
    "x",
    "@result",
    "_",
    "true",
    "null",
    "0",
    "2",
    "-9223372036854775808",
    "1.5",
    "1e999",
    "0x",
    "1u",
    "99999999999999999999",
    "\"a\"",
    "'critical'",
    "b'x'",
    "r'\\d'",
    "\"\"\"",
    "\"",
    "'",
    "`a`",
    "\\",
    "'\\uD800'",
    "'\\777'",
    "\u{0}",
    "é",
    "😀",
    "\n",
    " ",
    "//",
    ".",
    ",",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "?",
    ":",
    ".?",
    "[?",
    "!",
    "-",
    "+",
    "*",
    "/",
    "%",
    "==",
    "!=",
    "<",
    ">=",
    "&&",
    "||",
    " in ",
    "has(",
    "size(",
    "int(",
    "double(",
    "string(",
    ".all(x, ",
    ".exists(x, ",
    ".map(x, ",
    ".filter(x, ",
    ".matches(",
    ".startsWith(",
    ".contains(",
    "#",
    "$",
    "@",
];

const SEEDS: &[&str] = &[
    r#"incident.tries < 2 && host.cpu_some < 90.0 && (has(evidence.port) || evidence["a b"].startsWith('q')) ? true : !(time.hour in [1, 2])"#,
    "evidence.map(x, size(x) * 2).exists(x, x - 1 > 3) && int(evidence.port) / incident.flaps != 7 % incident.tries",
    r#"-incident.tries - 9223372036854775807 < 0 || double(evidence["killed by"]) > 1e300 || int(1e300) > 2 || [1, 2][5] == 1"#,
    r#"incident.name.matches("(w|x)+[a-z]{1,20}$") && [incident.name, "a" + "b"].filter(x, x != "c").size() == 2"#,
];

#[test]
fn no_text_however_odd_is_more_than_refused() {
    let mut various = Various(0x9E37_79B9_7F4A_7C15);
    let (service, other) = (incident(Subject::service("web")), incident(Subject::Host));
    let (world, nothing) = (world(), World::default());
    let mut taken = 0;
    for round in 0..20_000 {
        let text = if round % 2 == 0 {
            let count = 1 + various.below(24);
            (0..count)
                .map(|_| PIECES[various.below(PIECES.len())])
                .collect()
        } else {
            let mut text: Vec<char> = SEEDS[various.below(SEEDS.len())].chars().collect();
            for _ in 0..=various.below(4) {
                let place = various.below(text.len());
                match various.below(3) {
                    0 => drop(text.remove(place)),
                    1 => {
                        let piece = PIECES[various.below(PIECES.len())].chars();
                        text.splice(place..place, piece);
                    }
                    _ => {
                        let with = various.below(text.len());
                        text.swap(place, with);
                    }
                }
            }
            text.into_iter().collect::<String>()
        };
        if let Ok(condition) = Condition::compile(&text) {
            taken += 1;
            for (incident, world) in [(&service, &world), (&other, &nothing)] {
                let _ = condition.holds(incident, world, now());
            }
        }
    }
    assert!(taken > 300, "only {taken} texts were evaluated");
}
