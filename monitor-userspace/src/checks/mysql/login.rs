//! Logging in to `MySQL` and MariaDB with a password, or on their socket as who one is.

use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use super::packets::{Greeting, Reader, Session, refused};
use crate::checks::wire::{shown, wrong};
use crate::model::CheckFailure;

/// Long passwords, protocol of 4.1, transactions, passwords mixed with a nonce, ways to log in by name.
const ABLE: u32 = 0x1 | 0x200 | 0x2000 | 0x8000 | 0x8_0000;
/// utf8mb4.
const CHARACTERS: u8 = 45;
/// Most turns of a login.
const TURNS: u32 = 6;

/// `local`: on its socket, where a password can be sent as it is.
pub(super) async fn login(
    session: &mut Session,
    greeting: &Greeting,
    user: &str,
    password: &[u8],
    local: bool,
) -> Result<(), CheckFailure> {
    let native = b"mysql_native_password".to_vec();
    // What it would like may be what is not spoken here, and the user another's: it will say.
    let mut plugin = match mixed(&greeting.plugin, password, &greeting.nonce) {
        Some(_) => greeting.plugin.clone(),
        None => native,
    };
    let answer = mixed(&plugin, password, &greeting.nonce).unwrap_or_default();
    let mut said = ABLE.to_le_bytes().to_vec();
    said.extend((1_u32 << 24).to_le_bytes());
    said.push(CHARACTERS);
    said.extend([0; 23]);
    said.extend_from_slice(user.as_bytes());
    said.push(0);
    said.push(u8::try_from(answer.len()).unwrap_or(0));
    said.extend(answer);
    said.extend_from_slice(&plugin);
    said.push(0);
    session.send(&said).await?;
    for _ in 0..TURNS {
        let said = session.packet().await?;
        let mut said = Reader(&said);
        match said.number(1)? {
            0x00 => return Ok(()),
            0xff => return Err(refused(said)),
            0xfe => {
                plugin = said.text()?.to_vec();
                let nonce = said.0.strip_suffix(&[0]).unwrap_or(said.0);
                let answer = match mixed(&plugin, password, nonce) {
                    Some(answer) => answer,
                    // Who asks is known by the socket.
                    None if local && plugin.ends_with(b"_socket") => Vec::new(),
                    None => return Err(not_spoken(&plugin)),
                };
                session.send(&answer).await?;
            }
            0x01 if plugin == b"caching_sha2_password" => match said.0 {
                [3] => {}
                [4] if local => session.send(&[password, &[0]].concat()).await?,
                _ => {
                    return Err(wrong(
                        "it has not seen this password since it started, and wants TLS for it, which is not spoken: use its socket, or a user of mysql_native_password",
                    ));
                }
            },
            _ => return Err(wrong("a login is answered with what is no MySQL")),
        }
    }
    Err(wrong("a login has no end"))
}

fn not_spoken(plugin: &[u8]) -> CheckFailure {
    wrong(format!(
        "it wants a login by `{}`, which is not spoken here: give a user of mysql_native_password or caching_sha2_password",
        shown(plugin)
    ))
}

/// The password mixed with the nonce, as this way to log in has it; none where it is not known.
fn mixed(plugin: &[u8], password: &[u8], nonce: &[u8]) -> Option<Vec<u8>> {
    let hidden = |one: &[u8], other: &[u8]| -> Vec<u8> {
        one.iter().zip(other).map(|(a, b)| a ^ b).collect()
    };
    match plugin {
        b"mysql_native_password" | b"caching_sha2_password" if password.is_empty() => {
            Some(Vec::new())
        }
        b"mysql_native_password" => {
            let once = Sha1::digest(password);
            let twice = Sha1::digest(once);
            let with = Sha1::new().chain_update(nonce).chain_update(twice);
            Some(hidden(&once, &with.finalize()))
        }
        b"caching_sha2_password" => {
            let once = Sha256::digest(password);
            let twice = Sha256::digest(once);
            let with = Sha256::new().chain_update(twice).chain_update(nonce);
            Some(hidden(&once, &with.finalize()))
        }
        _ => None,
    }
}
