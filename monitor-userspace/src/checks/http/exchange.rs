//! One request and its answer over a stream that is open: HTTP/1.1 (RFC 9112), written and read by hand because it is the check that is made most.
//!
//! Reads at most [`HEAD`] of a head and [`BODY`] of a body, whatever the server does; keeps a body only where somebody looks at it.

use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::chunked::Chunked;
use crate::checks::net::banner::excerpt;
use crate::checks::net::connect::reason;
use crate::checks::net::doing::Doing;
use crate::model::CheckFailure;

/// Most of a head that is read: status, and headers, of which there can be [`HEADERS`].
pub(super) const HEAD: usize = 32 << 10;
const HEADERS: usize = 96;
/// Most of a body that is read.
pub(super) const BODY: usize = 1 << 20;
/// What is read at once.
const PIECE: usize = 2048;
/// Most answers before the answer (`103 Early Hints`).
const INTERIM: usize = 8;

/// What came.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) status: u16,
    pub(super) location: Option<String>,
    /// What was kept of the body.
    pub(super) body: Vec<u8>,
    /// It is longer than what was read.
    pub(super) cut: bool,
    pub(super) first_byte: Instant,
    /// Another request may be made on the connection: its end is known, and the server has not said that it closes it.
    pub(super) goes_on: bool,
}

/// What ends a body.
enum End {
    Now,
    After(usize),
    Chunked(Chunked),
    Close,
}

struct Head {
    status: u16,
    location: Option<String>,
    end: End,
    /// Where the body begins.
    body: usize,
    /// The server keeps the connection open.
    stays: bool,
}

/// Sends a request, and reads its answer.
pub(super) async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    request: &[u8],
    (keep, no_body): (bool, bool),
    doing: &Doing,
) -> Result<Got, CheckFailure> {
    let lost = |error: std::io::Error| CheckFailure::Connect(reason(&error));
    doing.now("sending the request");
    // A server may answer before it has read all, and close.
    let sent = stream.write_all(request).await;
    stream.flush().await.or(Ok(())).map_err(lost)?;
    doing.now("waiting for the answer: the request was sent, not a byte came back");
    let mut buffer: Vec<u8> = Vec::with_capacity(PIECE);
    let mut first_byte = None;
    let mut interim = 0;
    let head = 'head: loop {
        let more = stream.read_buf(&mut buffer).await.map_err(lost)?;
        if more == 0 {
            sent.map_err(lost)?;
            return Err(CheckFailure::Answer(if buffer.is_empty() {
                "the connection was closed without an answer".to_owned()
            } else {
                format!(
                    "the connection was closed in the middle of the head: {}",
                    excerpt(&buffer)
                )
            }));
        }
        if first_byte.is_none() {
            first_byte = Some(Instant::now());
            doing.now("reading the head of the answer");
        }
        while let Some(head) = head(&buffer, no_body)? {
            if !(100..200).contains(&head.status) || head.status == 101 {
                break 'head head;
            }
            buffer.drain(..head.body);
            interim += 1;
            if interim > INTERIM {
                let status = head.status;
                return Err(CheckFailure::Answer(format!(
                    "status {status} again and again"
                )));
            }
        }
        if buffer.len() >= HEAD {
            return Err(CheckFailure::Answer(format!(
                "its headers do not end: {} KiB were read, it begins with {}",
                HEAD >> 10,
                excerpt(&buffer)
            )));
        }
    };
    buffer.drain(..head.body);
    let mut got = Got {
        status: head.status,
        location: head.location,
        body: Vec::new(),
        cut: false,
        first_byte: first_byte.unwrap_or_else(Instant::now),
        goes_on: head.stays
            && match &head.end {
                End::Now => buffer.is_empty(),
                End::After(length) => buffer.len() <= *length,
                End::Chunked(_) | End::Close => false,
            },
    };
    body(stream, buffer, head.end, keep, &mut got, doing).await?;
    got.goes_on &= !got.cut;
    Ok(got)
}

fn head(bytes: &[u8], no_body: bool) -> Result<Option<Head>, CheckFailure> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    let body = match answer.parse(bytes) {
        Ok(httparse::Status::Complete(body)) => body,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(CheckFailure::Answer(format!("more than {HEADERS} headers")));
        }
        Err(why) => {
            return Err(CheckFailure::Answer(format!(
                "what answers does not speak HTTP ({why}): {}",
                excerpt(bytes)
            )));
        }
    };
    let status = answer.code.unwrap_or_default();
    let (mut location, mut length, mut chunked) = (None, None, false);
    // Those that speak HTTP/1.0 close it.
    let mut stays = answer.version == Some(1);
    for header in answer.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        let value = || String::from_utf8_lossy(header.value);
        if is("location") {
            location = Some(value().trim().to_owned());
        } else if is("content-length") {
            let text = value().trim().to_owned();
            let read = text.parse::<usize>();
            length = Some(read.map_err(|_| {
                CheckFailure::Answer(format!(
                    "its content-length is {}",
                    excerpt(text.as_bytes())
                ))
            })?);
        } else if is("connection") {
            stays &= !value().to_ascii_lowercase().contains("close");
        } else if is("transfer-encoding") {
            chunked = value().trim().to_ascii_lowercase().ends_with("chunked");
        }
    }
    let end = match (no_body || matches!(status, 204 | 304), chunked, length) {
        (true, ..) => End::Now,
        (_, true, _) => End::Chunked(Chunked::default()),
        (_, _, Some(length)) => End::After(length),
        _ => End::Close,
    };
    Ok(Some(Head {
        status,
        location,
        end,
        body,
        stays,
    }))
}

/// Reads the body to its end, or as much of it as is read at most.
async fn body<S: AsyncRead + Unpin>(
    stream: &mut S,
    mut piece: Vec<u8>,
    mut end: End,
    keep: bool,
    got: &mut Got,
    doing: &Doing,
) -> Result<(), CheckFailure> {
    let mut read = 0;
    loop {
        let (mut data, ended) = match &mut end {
            End::Now => (Vec::new(), true),
            End::Close => (std::mem::take(&mut piece), false),
            End::After(left) => {
                piece.truncate(*left);
                *left -= piece.len();
                (std::mem::take(&mut piece), *left == 0)
            }
            End::Chunked(chunked) => {
                let mut data = Vec::new();
                let ended = chunked.take(&piece, &mut data);
                piece.clear();
                let ended = ended.ok_or_else(|| {
                    CheckFailure::Answer("its body is not chunked as it says".to_owned())
                })?;
                (data, ended)
            }
        };
        let room = BODY - read;
        got.cut = data.len() > room || (data.len() == room && !ended);
        data.truncate(room);
        read += data.len();
        if keep {
            got.body.extend_from_slice(&data);
        }
        if ended || got.cut {
            return Ok(());
        }
        doing.now(if read == 0 {
            "waiting for the body of the answer"
        } else {
            "reading the body of the answer"
        });
        data.clear();
        // Larger pieces where there is more than a little.
        data.reserve(if read > PIECE { 8 * PIECE } else { PIECE });
        piece = data;
        let more = stream.read_buf(&mut piece).await;
        let more = match more {
            Ok(more) => more,
            // Many servers end TLS without saying goodbye; where the end is not said otherwise, that is the end.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => 0,
            Err(error) => return Err(CheckFailure::Connect(reason(&error))),
        };
        if more == 0 {
            return match end {
                End::Close => Ok(()),
                _ => Err(CheckFailure::Answer(format!(
                    "the connection was closed in the middle of the body, after {read} bytes"
                ))),
            };
        }
    }
}
