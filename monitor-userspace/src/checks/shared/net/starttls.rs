//! Protocols that begin in the clear, and go on with TLS when asked to.

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::banner::excerpt;
use super::connect::reason;
use super::doing::Doing;
use crate::model::CheckFailure;

/// Most that is read before TLS begins.
const MOST: usize = 4096;

/// See the module.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StartTls {
    /// RFC 3207.
    Smtp,
    /// RFC 9051.
    Imap,
    /// `SSLRequest` of its protocol, version 3.
    Postgres,
}

impl StartTls {
    /// Asks for TLS; afterwards it can begin.
    pub(crate) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
        self,
        stream: &mut S,
        doing: &Doing,
    ) -> Result<(), CheckFailure> {
        doing.now("asking to begin with TLS");
        match self {
            Self::Smtp => {
                expect(stream, b"220 ", b"220-").await?;
                say(stream, b"EHLO localhost\r\n").await?;
                expect(stream, b"250 ", b"250-").await?;
                say(stream, b"STARTTLS\r\n").await?;
                expect(stream, b"220 ", b"220-").await
            }
            Self::Imap => {
                expect(stream, b"* OK", b"* OK").await?;
                say(stream, b"a STARTTLS\r\n").await?;
                expect(stream, b"a OK", b"* ").await
            }
            Self::Postgres => {
                // Its length, and 1234 and 5679 in the place of a version.
                say(stream, &[0, 0, 0, 8, 4, 210, 22, 47]).await?;
                let mut answer = [0];
                let read = stream.read_exact(&mut answer).await;
                read.map_err(|error| CheckFailure::Connect(reason(&error)))?;
                match answer {
                    [b'S'] => Ok(()),
                    [b'N'] => Err(refused("it has TLS switched off")),
                    other => Err(refused(&format!("it said {}", excerpt(&other)))),
                }
            }
        }
    }
}

fn refused(why: &str) -> CheckFailure {
    CheckFailure::Answer(format!("TLS cannot begin: {why}"))
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, what: &[u8]) -> Result<(), CheckFailure> {
    let said = stream.write_all(what).await;
    said.map_err(|error| CheckFailure::Connect(reason(&error)))
}

/// Reads lines until one begins with `last`; those before it begin with `before`. Byte by byte: what follows is TLS's.
async fn expect<S: AsyncRead + Unpin>(
    stream: &mut S,
    last: &[u8],
    before: &[u8],
) -> Result<(), CheckFailure> {
    let mut line = Vec::new();
    let mut read = 0;
    while read < MOST {
        let byte = stream.read_u8().await;
        let byte = byte.map_err(|error| CheckFailure::Connect(reason(&error)))?;
        read += 1;
        if byte != b'\n' {
            line.push(byte);
            continue;
        }
        if line.starts_with(last) {
            return Ok(());
        }
        if !line.starts_with(before) {
            return Err(refused(&format!("it said {}", excerpt(&line))));
        }
        line.clear();
    }
    Err(refused(&format!("it said {MOST} bytes, and no end of it")))
}
