//! Supervisor's XML-RPC over its Unix socket: requests written by hand, answers read into plain text fields.
//!
//! Source of the interface: `supervisor/rpcinterface.py` and `supervisor/xmlrpc.py` of Supervisor 4.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use roxmltree::{Document, Node, ParsingOptions};

use super::super::exchange::Exchange;

/// Longest answer that is read, bytes: what is said of one program is under 4 KiB.
const MOST: usize = 4 << 20;
/// Most XML nodes of an answer.
const NODES: u32 = 400_000;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// They refuse: the number of the fault (`supervisor.xmlrpc.Faults`), and their words.
    Refused(i64, String),
    /// They could not be asked, or their answer is none.
    Unheard(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(code, said) => write!(f, "supervisord refuses: {said} (fault {code})"),
            Self::Unheard(why) => f.write_str(why),
        }
    }
}

/// A `struct` of an answer: the text of each member, several for an array.
pub(super) type Record = BTreeMap<String, Vec<String>>;

/// An argument of a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Argument<'a> {
    Text(&'a str),
    Truth(bool),
}

/// Calls a method: the records of its answer, none where it only says that it was done. `login` is `name:password`.
pub(super) fn call(
    socket: &Path,
    login: Option<&str>,
    method: &str,
    arguments: &[Argument<'_>],
    within: Duration,
) -> Result<Vec<Record>, Failure> {
    let asked = || -> Result<Vec<u8>, String> {
        let mut exchange = Exchange::open(socket, within)?;
        exchange.send(request(login, method, arguments).as_bytes())?;
        exchange.take_all(MOST)
    };
    let answer = asked().map_err(|why| {
        Failure::Unheard(format!(
            "supervisord was asked for supervisor.{method}: {why}"
        ))
    })?;
    read(&answer)
}

fn request(login: Option<&str>, method: &str, arguments: &[Argument<'_>]) -> String {
    let mut params = String::new();
    for argument in arguments {
        // Writing to a string cannot fail.
        let _ = match argument {
            Argument::Text(text) => write!(
                params,
                "<param><value><string>{}</string></value></param>",
                escaped(text)
            ),
            Argument::Truth(truth) => write!(
                params,
                "<param><value><boolean>{}</boolean></value></param>",
                u8::from(*truth)
            ),
        };
    }
    let body = format!(
        "<?xml version=\"1.0\"?><methodCall><methodName>supervisor.{method}</methodName><params>{params}</params></methodCall>"
    );
    let login = login.map(|login| format!("Authorization: Basic {}\r\n", base64(login.as_bytes())));
    format!(
        "POST /RPC2 HTTP/1.0\r\nHost: localhost\r\nContent-Type: text/xml\r\n{}Content-Length: {}\r\n\r\n{body}",
        login.unwrap_or_default(),
        body.len()
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_usize, |bits, at| {
            bits << 8 | usize::from(group.get(at).copied().unwrap_or(0))
        });
        for at in 0..4 {
            let digit = DIGITS.get(bits >> (18 - 6 * at) & 63).copied();
            let digit = digit.filter(|_| at <= group.len()).unwrap_or(b'=');
            text.push(char::from(digit));
        }
    }
    text
}

/// An HTTP answer: see [`call`].
fn read(answer: &[u8]) -> Result<Vec<Record>, Failure> {
    let unheard = |why: &str| Failure::Unheard(why.to_owned());
    let answer = std::str::from_utf8(answer)
        .map_err(|_| unheard("supervisord's answer is no text in UTF-8"))?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| unheard("supervisord's answer is not in HTTP: is this its socket?"))?;
    match head.split(' ').nth(1) {
        Some("200") => {}
        Some("401") => {
            return Err(unheard(
                "supervisord wants a user name and a password, or others than these: set `username` and `password_file` as its [unix_http_server] has them",
            ));
        }
        _ => {
            let first = head.lines().next().unwrap_or_default();
            let first: String = first.chars().take(100).collect();
            return Err(Failure::Unheard(format!(
                "supervisord answers {first:?}: see its log"
            )));
        }
    }
    let options = ParsingOptions {
        nodes_limit: NODES,
        ..ParsingOptions::default()
    };
    let document = Document::parse_with_options(body, options)
        .map_err(|error| Failure::Unheard(format!("supervisord's answer is no XML: {error}")))?;
    let root = document.root_element();
    if let Some(fault) = root.children().find(|node| node.has_tag_name("fault")) {
        let said = records(fault).pop().unwrap_or_default();
        let text = first(&said, "faultString").unwrap_or("no reason given");
        let code = first(&said, "faultCode").and_then(|code| code.parse().ok());
        return Err(Failure::Refused(code.unwrap_or(0), text.to_owned()));
    }
    if !root.has_tag_name("methodResponse") {
        return Err(unheard("supervisord's answer is no XML-RPC"));
    }
    Ok(records(root))
}

/// All that are not within another.
fn records(within: Node<'_, '_>) -> Vec<Record> {
    let structs = within.descendants().filter(|it| it.has_tag_name("struct"));
    structs.map(record).collect()
}

fn record(node: Node<'_, '_>) -> Record {
    let members = node.children().filter(|it| it.has_tag_name("member"));
    let members = members.filter_map(|member| {
        let child = |name| member.children().find(|it| it.has_tag_name(name));
        let name = child("name")?.text()?.to_owned();
        let value = child("value")?;
        let array = value.children().find(|it| it.has_tag_name("array"));
        let texts = match array {
            Some(array) => {
                let values = array.descendants().filter(|it| it.has_tag_name("value"));
                values.map(scalar).collect()
            }
            None => vec![scalar(value)],
        };
        Some((name, texts))
    });
    members.collect()
}

/// The text of a `value`, in an element for its type or not.
fn scalar(value: Node<'_, '_>) -> String {
    let typed = value.children().find(Node::is_element).unwrap_or(value);
    typed.text().unwrap_or_default().to_owned()
}

/// The text of a member that is no array.
pub(super) fn first<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    record.get(name)?.first().map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(body: &str) -> Vec<u8> {
        format!("HTTP/1.0 200 OK\r\nContent-Type: text/xml\r\n\r\n{body}").into_bytes()
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        let found = ["", "f", "fo", "foo", "foob", "user:pass"].map(|it| base64(it.as_bytes()));
        assert_eq!(
            found,
            ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "dXNlcjpwYXNz"]
        );
    }

    #[test]
    fn a_request_quotes_what_is_markup() {
        let found = request(
            Some("a:b"),
            "startProcess",
            &[Argument::Text("a<b&c"), Argument::Truth(true)],
        );
        assert!(found.contains("<string>a&lt;b&amp;c</string>"), "{found}");
        assert!(found.contains("<boolean>1</boolean>"), "{found}");
        assert!(
            found.contains("\r\nAuthorization: Basic YTpi\r\n"),
            "{found}"
        );
    }

    #[test]
    fn records_and_faults_are_read() {
        let one = "<?xml version='1.0'?><methodResponse><params><param><value><struct>\
            <member><name>pid</name><value><int>42</int></value></member>\
            <member><name>spawnerr</name><value><string></string></value></member>\
            <member><name>exitcodes</name><value><array><data><value><int>0</int></value><value><int>2</int></value></data></array></value></member>\
            </struct></value></param></params></methodResponse>";
        let found = read(&http(one)).expect("it reads").pop().expect("one");
        assert_eq!(first(&found, "pid"), Some("42"));
        assert_eq!(first(&found, "spawnerr"), Some(""));
        assert_eq!(
            found.get("exitcodes"),
            Some(&vec!["0".to_owned(), "2".to_owned()])
        );
        let done = "<methodResponse><params><param><value><boolean>1</boolean></value></param></params></methodResponse>";
        assert_eq!(read(&http(done)), Ok(Vec::new()));
        let fault = "<methodResponse><fault><value><struct>\
            <member><name>faultCode</name><value><int>10</int></value></member>\
            <member><name>faultString</name><value><string>BAD_NAME: web</string></value></member>\
            </struct></value></fault></methodResponse>";
        assert_eq!(
            read(&http(fault)),
            Err(Failure::Refused(10, "BAD_NAME: web".to_owned()))
        );
    }

    #[test]
    fn rubbish_is_no_answer() {
        let bombs = format!("<a>{}", "<b>".repeat(100_000));
        let bodies = [
            "",
            "x",
            "<a",
            "<methodResponse>",
            "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
            "<html></html>",
            &bombs,
        ];
        for body in bodies {
            assert!(
                matches!(read(&http(body)), Err(Failure::Unheard(_))),
                "{body:.40}"
            );
        }
        for answer in [
            "",
            "hello",
            "HTTP/1.0 500 Internal\r\n\r\n",
            "HTTP/1.0 401 No\r\n\r\n",
            "\r\n\r\n",
        ] {
            assert!(
                matches!(read(answer.as_bytes()), Err(Failure::Unheard(_))),
                "{answer}"
            );
        }
        assert!(read(&[0xff; 64]).is_err());
        let members = "<methodResponse><struct><member/><member><name>a</name></member></struct></methodResponse>";
        assert_eq!(read(&http(members)), Ok(vec![Record::new()]));
    }
}
