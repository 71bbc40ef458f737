//! Packets of `MySQL`: three bytes of length, a number, what is said. The greeting, errors, and tables as texts. What does not read is
//! refused, and never believed for its length.

use crate::checks::wire::{Place, Wire, shown, wrong};
use crate::model::CheckFailure;

/// Most that is read of a conversation, bytes; of one packet; columns and rows of a table.
const MOST: usize = 1 << 20;
const PACKET: usize = 256 << 10;
const COLUMNS: u64 = 256;
const ROWS: usize = 1000;

/// A conversation.
#[derive(Debug)]
pub(super) struct Session {
    wire: Wire,
    /// Number of the next packet.
    number: u8,
}

/// How a server introduces itself.
#[derive(Debug)]
pub(super) struct Greeting {
    pub(super) version: Vec<u8>,
    /// What a password is mixed with.
    pub(super) nonce: Vec<u8>,
    /// How it wants to be logged in to.
    pub(super) plugin: Vec<u8>,
}

/// What a question is answered with.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<Option<String>>>,
}

impl Table {
    /// In a table of names and values, the value of this name.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let row = self.rows.iter().find(|row| {
            row.first()
                .is_some_and(|first| first.as_deref() == Some(name))
        });
        row?.get(1)?.as_deref()
    }

    /// Of a row, the value in this column.
    pub(super) fn cell<'a>(&self, row: &'a [Option<String>], name: &str) -> Option<&'a str> {
        let at = self.columns.iter().position(|column| column == name)?;
        row.get(at)?.as_deref()
    }
}

impl Session {
    pub(super) async fn open(place: &Place) -> Result<Self, CheckFailure> {
        let wire = Wire::open(place, MOST).await?;
        Ok(Self { wire, number: 0 })
    }

    pub(super) async fn packet(&mut self) -> Result<Vec<u8>, CheckFailure> {
        let head = self.wire.exactly(4).await?;
        let mut head = Reader(&head);
        let length = usize::try_from(head.number(3)?).unwrap_or(usize::MAX);
        let number = head.number(1)?;
        self.number = u8::try_from(number).unwrap_or(0).wrapping_add(1);
        if length > PACKET {
            return Err(wrong(format!(
                "it does not speak as MySQL does, or says too much: a packet of {length} bytes"
            )));
        }
        self.wire.exactly(length).await
    }

    pub(super) async fn send(&mut self, said: &[u8]) -> Result<(), CheckFailure> {
        let length = u32::try_from(said.len()).unwrap_or(u32::MAX).to_le_bytes();
        let mut packet = length.get(..3).unwrap_or_default().to_vec();
        packet.push(self.number);
        packet.extend_from_slice(said);
        self.wire.send(&packet).await
    }

    /// Says goodbye, without which a server counts and logs an aborted connection. That it has gone already is no failure.
    pub(super) async fn leave(&mut self) {
        self.number = 0;
        let _gone = self.send(b"\x01").await;
    }

    pub(super) async fn greeting(&mut self) -> Result<Greeting, CheckFailure> {
        let said = self.packet().await?;
        let mut said = Reader(&said);
        match said.number(1)? {
            0xff => return Err(refused(said)),
            10 => {}
            other => {
                return Err(wrong(format!(
                    "it does not greet as MySQL does: version {other} of the protocol"
                )));
            }
        }
        let version = said.text()?.to_vec();
        said.take(4)?;
        let mut nonce = said.take(8)?.to_vec();
        // A zero, what it can, its character set, its state, what more it can.
        said.take(1 + 2 + 1 + 2 + 2)?;
        let length = usize::try_from(said.number(1)?).unwrap_or(0);
        said.take(10)?;
        nonce.extend_from_slice(said.take(length.saturating_sub(8).max(13))?);
        nonce.truncate(20);
        let plugin = said.text().unwrap_or_default().to_vec();
        Ok(Greeting {
            version,
            nonce,
            plugin,
        })
    }

    /// Asks, and reads all of the answer.
    pub(super) async fn ask(&mut self, sql: &str) -> Result<Table, CheckFailure> {
        self.number = 0;
        self.send(&[b"\x03", sql.as_bytes()].concat()).await?;
        let said = self.packet().await?;
        let mut said = Reader(&said);
        if said.0.first() == Some(&0xff) {
            said.take(1)?;
            return Err(refused(said));
        }
        let columns = said.length()?.unwrap_or(0);
        if columns > COLUMNS {
            return Err(wrong(format!("a table of {columns} columns")));
        }
        let mut table = Table::default();
        if columns == 0 {
            return Ok(table);
        }
        for _ in 0..columns {
            let said = self.packet().await?;
            let mut said = Reader(&said);
            for _ in ["catalogue", "database", "table", "table as it is"] {
                said.string()?;
            }
            let name = said.string()?.unwrap_or_default();
            table.columns.push(shown(name));
        }
        self.packet().await?;
        loop {
            let said = self.packet().await?;
            let mut said = Reader(&said);
            match said.0.first() {
                Some(0xfe) if said.0.len() < 9 => return Ok(table),
                Some(0xff) => {
                    said.take(1)?;
                    return Err(refused(said));
                }
                _ if table.rows.len() == ROWS => {
                    return Err(wrong(format!("a table of more than {ROWS} rows")));
                }
                _ => {}
            }
            let mut row = Vec::new();
            for _ in 0..columns {
                let value = said.string()?;
                row.push(value.map(|value| String::from_utf8_lossy(value).into_owned()));
            }
            table.rows.push(row);
        }
    }

    /// How it follows others; older servers know only the older word.
    pub(super) async fn replicas(&mut self) -> Result<Table, CheckFailure> {
        match self.ask("SHOW REPLICA STATUS").await {
            Err(CheckFailure::Answer(why)) if why.contains("1064") => {
                self.ask("SHOW SLAVE STATUS").await
            }
            said => said,
        }
    }
}

/// What an error packet means; its first byte is taken.
pub(super) fn refused(mut said: Reader<'_>) -> CheckFailure {
    let code = said.number(2).unwrap_or(0);
    let words = match said.0.strip_prefix(b"#") {
        Some(rest) => rest.get(5..).unwrap_or_default(),
        None => said.0,
    };
    let means = match code {
        1040 => "all of its connections are taken",
        1203 | 1226 => "the user has all the connections that it may have",
        1129 => "it has shut this host out for too many broken connections: see FLUSH HOSTS",
        1130 => "it lets nobody in from this host",
        1044 | 1045 | 1698 => "the user or the password is wrong, or may not come from this host",
        1053 => "it is shutting down",
        1021 | 1030 => "its disk is full or broken",
        1227 => "the user may not do this: grant it REPLICATION CLIENT (MariaDB: REPLICA MONITOR)",
        3159 => "it wants TLS, which is not spoken: use its socket",
        _ => "it refuses",
    };
    wrong(format!("{means} ({code}: {})", shown(words)))
}

/// Reads from the front; what is not there is refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, bytes: usize) -> Result<&'a [u8], CheckFailure> {
        let split = self.0.split_at_checked(bytes);
        let (taken, rest) =
            split.ok_or_else(|| wrong("it does not speak as MySQL does: a packet is cut off"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of so many bytes, the lowest first.
    pub(super) fn number(&mut self, bytes: usize) -> Result<u64, CheckFailure> {
        let taken = self.take(bytes)?;
        let number = taken.iter().rev();
        Ok(number.fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// Up to a zero, or the end.
    pub(super) fn text(&mut self) -> Result<&'a [u8], CheckFailure> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let text = self.take(end.unwrap_or(self.0.len()))?;
        if end.is_some() {
            self.take(1)?;
        }
        Ok(text)
    }

    /// A length as it is written before texts; none for a null.
    fn length(&mut self) -> Result<Option<u64>, CheckFailure> {
        Ok(match self.number(1)? {
            0xfb => None,
            0xfc => Some(self.number(2)?),
            0xfd => Some(self.number(3)?),
            0xfe => Some(self.number(8)?),
            short => Some(short),
        })
    }

    fn string(&mut self) -> Result<Option<&'a [u8]>, CheckFailure> {
        let Some(length) = self.length()? else {
            return Ok(None);
        };
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
            .map(Some)
    }
}
