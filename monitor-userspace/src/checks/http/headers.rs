//! Headers to send; what is secret of them is in a file or in an environment variable, and is read when it is sent.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use crate::checks::files;

/// Most headers, and the longest value.
const MOST: usize = 32;
const LONGEST: u64 = 8192;
/// What is written by the check itself.
const OWN: [&str; 4] = [
    "connection",
    "content-length",
    "transfer-encoding",
    "upgrade",
];

/// What is not sent to another server, where a redirect leads to one.
const OWN_SERVER: [&str; 4] = ["authorization", "cookie", "host", "proxy-authorization"];

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Headers(BTreeMap<String, Header>);

#[derive(Clone, Debug)]
enum Header {
    Plain(String),
    /// What stands before the secret (`Bearer `), and where that is.
    File(String, PathBuf),
    Env(String, String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Secret {
    file: Option<PathBuf>,
    env: Option<String>,
    #[serde(default)]
    prefix: String,
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let written = BTreeMap::<String, toml::Value>::deserialize(from)?;
        if written.len() > MOST {
            return Err(serde::de::Error::custom(format!("at most {MOST} headers")));
        }
        let mut headers = BTreeMap::new();
        for (name, value) in written {
            let name = name.to_ascii_lowercase();
            let header = header(&name, value).map_err(serde::de::Error::custom)?;
            headers.insert(name, header);
        }
        Ok(Self(headers))
    }
}

fn header(name: &str, value: toml::Value) -> Result<Header, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(format!("`{name}` cannot be the name of a header"));
    }
    if OWN.contains(&name) {
        return Err(format!("the header `{name}` is the check's own"));
    }
    let wrong = || {
        format!(
            "the header `{name}` is a text, or {{ file = \"/etc/…\" }} or {{ env = \"TOKEN\" }}, these also with `prefix = \"Bearer \"`"
        )
    };
    let toml::Value::Table(_) = value else {
        let text = value.as_str().ok_or_else(wrong)?;
        fits(name, text)?;
        return Ok(Header::Plain(text.to_owned()));
    };
    let secret = Secret::deserialize(value).map_err(|_| wrong())?;
    fits(name, &secret.prefix)?;
    match (secret.file, secret.env) {
        (Some(file), None) => Ok(Header::File(secret.prefix, file)),
        (None, Some(env)) => Ok(Header::Env(secret.prefix, env)),
        _ => Err(wrong()),
    }
}

fn fits(name: &str, value: &str) -> Result<(), String> {
    if value.chars().any(char::is_control) {
        return Err(format!(
            "the header `{name}` would hold the end of a line or the like"
        ));
    }
    Ok(())
}

impl Headers {
    /// Whether it holds this one.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether some must be read before they are sent.
    pub(super) fn any_secret(&self) -> bool {
        self.0
            .values()
            .any(|header| !matches!(header, Header::Plain(_)))
    }

    /// Those that everybody may see, as they are sent; to another server without those that are for this one alone.
    pub(super) fn plain(&self, own: bool) -> String {
        let mut text = String::new();
        for (name, header) in &self.0 {
            if let Header::Plain(value) = header
                && (own || !OWN_SERVER.contains(&name.as_str()))
            {
                text.extend([name, ": ", value, "\r\n"]);
            }
        }
        text
    }

    /// The others, read now.
    pub(super) async fn secret(&self) -> Result<String, String> {
        let mut text = String::new();
        for (name, header) in &self.0 {
            let (prefix, value) = match header {
                Header::Plain(_) => continue,
                Header::File(prefix, file) => (prefix, from_file(file.clone()).await?),
                Header::Env(prefix, env) => {
                    let value = std::env::var(env);
                    (
                        prefix,
                        value.map_err(|_| format!("the environment variable {env} is not set"))?,
                    )
                }
            };
            let value = value.trim_end_matches(['\r', '\n']);
            fits(name, value)?;
            text.extend([name, ": ", prefix.as_str(), value, "\r\n"]);
        }
        Ok(text)
    }
}

async fn from_file(file: PathBuf) -> Result<String, String> {
    let path = file.clone();
    files::off_thread(&path, move || {
        let failed = |why: String| format!("the secret in {}: {why}", file.display());
        let bytes = files::read(&file, LONGEST).map_err(failed)?;
        String::from_utf8(bytes).map_err(|_| failed("it is no text".to_owned()))
    })
    .await
}
