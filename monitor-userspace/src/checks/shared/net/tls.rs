//! TLS by rustls: a handshake each time, with the certificate's dates also where it is not trusted, and reasons in words.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificate::{self, Certificate};
use super::connect::reason;
use super::doing::Doing;
use super::roots;
use crate::model::CheckFailure;

/// Most names of a certificate that are shown.
const NAMES: usize = 5;

/// How to speak TLS with somebody.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// Whom they must be.
    pub(crate) name: String,
    /// Whom to trust; the host's list when none.
    pub(crate) ca_file: Option<PathBuf>,
    /// Whoever it is.
    pub(crate) insecure: bool,
    /// Whether to ask for HTTP/1.1.
    pub(crate) http: bool,
}

/// A stream that nobody else reads, and what was shown.
pub(crate) struct Secured<S> {
    pub(crate) stream: TlsStream<S>,
    pub(crate) certificate: Option<Certificate>,
    pub(crate) took: Duration,
}

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(ring::default_provider()));

/// Whether a text can be whom they must be.
pub(crate) fn is_server_name(name: &str) -> Result<(), String> {
    let read = ServerName::try_from(name);
    read.map(|_| ())
        .map_err(|_| format!("`{name}` cannot be the name in a certificate"))
}

impl Tls {
    /// Shakes hands.
    pub(crate) async fn shake<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        doing: &Doing,
    ) -> Result<Secured<S>, CheckFailure> {
        let failed = |why: String| CheckFailure::Answer(format!("TLS: {why}"));
        let name = ServerName::try_from(self.name.clone());
        let name = name.map_err(|why| failed(why.to_string()))?;
        let look = Arc::new(Look {
            trust: self.trust().await.map_err(failed)?,
            seen: Mutex::default(),
        });
        let versions = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_safe_default_protocol_versions();
        let versions = versions.map_err(|why| failed(why.to_string()))?;
        let mut config = versions
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&look) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
        // Who resumes shows no certificate.
        config.resumption = Resumption::disabled();
        if self.http {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        doing.now(format!("in the TLS handshake with {}", self.name));
        let began = Instant::now();
        let shaken = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await;
        let seen = look.take();
        match shaken {
            Ok(stream) => Ok(Secured {
                stream,
                certificate: seen,
                took: began.elapsed(),
            }),
            Err(error) => {
                let told = error
                    .get_ref()
                    .and_then(|inner| inner.downcast_ref::<Error>());
                Err(failed(match told {
                    Some(told) => words(told, seen.as_ref(), &self.name),
                    None => format!("in the handshake: {}", reason(&error)),
                }))
            }
        }
    }

    async fn trust(&self) -> Result<Option<Arc<WebPkiServerVerifier>>, String> {
        if self.insecure {
            return Ok(None);
        }
        let file = self.ca_file.as_deref().map(Path::new);
        roots::of(file, &PROVIDER).await.map(Some)
    }
}

/// Looks at what is shown, and remembers it.
#[derive(Debug)]
struct Look {
    /// None trusts everybody.
    trust: Option<Arc<WebPkiServerVerifier>>,
    seen: Mutex<Option<Certificate>>,
}

impl Look {
    fn take(&self) -> Option<Certificate> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.take()
    }
}

impl ServerCertVerifier for Look {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Certificate::read(shown);
        match &self.trust {
            Some(trust) => trust.verify_server_cert(shown, others, name, ocsp, now),
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &PROVIDER.signature_verification_algorithms;
        verify_tls12_signature(message, shown, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &PROVIDER.signature_verification_algorithms;
        verify_tls13_signature(message, shown, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// What went wrong, for somebody who does not know TLS by heart.
fn words(error: &Error, seen: Option<&Certificate>, name: &str) -> String {
    // What is over counts more than who made it.
    if let (Some(seen), Error::InvalidCertificate(_)) = (seen, error)
        && let Some(trouble) = seen.trouble(certificate::now())
    {
        return trouble;
    }
    match error {
        Error::InvalidCertificate(why) => invalid(why, seen, name),
        Error::InvalidMessage(_) => "what answers there does not speak TLS".to_owned(),
        Error::AlertReceived(alert) => {
            format!(
                "the other side refused the handshake: {alert:?} (its protocol versions, its ciphers, or the name {name} do not suit it)"
            )
        }
        Error::PeerIncompatible(why) => {
            format!("no common protocol: {why:?} (TLS 1.2 and 1.3 are spoken here)")
        }
        other => other.to_string(),
    }
}

fn invalid(why: &CertificateError, seen: Option<&Certificate>, name: &str) -> String {
    let (subject, issuer) = seen.map_or(("?", "?"), |it| (it.called(), it.issuer.as_str()));
    match why {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            let names = seen.map(|it| it.names.as_slice()).unwrap_or_default();
            let more = names.len().saturating_sub(NAMES);
            let shown: Vec<&str> = names.iter().take(NAMES).map(String::as_str).collect();
            let shown = match (shown.is_empty(), more) {
                (true, _) => "no host at all".to_owned(),
                (false, 0) => shown.join(", "),
                (false, more) => format!("{} and {more} more", shown.join(", ")),
            };
            format!("the certificate is not for {name}, it is for {shown}")
        }
        _ if seen.is_some_and(|it| it.subject == it.issuer) => {
            format!(
                "the certificate of {subject} is signed by itself, and not among those that are trusted"
            )
        }
        CertificateError::UnknownIssuer => {
            format!(
                "the certificate of {subject} was made by `{issuer}`, who is not trusted here (or the server sends no intermediate certificate)"
            )
        }
        CertificateError::Revoked => format!("the certificate of {subject} was revoked"),
        CertificateError::BadEncoding => "its certificate cannot be read".to_owned(),
        other => format!("the certificate of {subject} is not accepted: {other}"),
    }
}
