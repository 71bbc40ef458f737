//! Whom to trust: the certificates of the host, or those in a file. Read when first needed, and again when the file has changed.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::super::files;

/// Where distributions have them: Debian and most, Fedora, openSUSE, Alpine.
const PLACES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Most files that are kept, and the most that is read of one.
const FILES: usize = 16;
const SIZE: u64 = 4 << 20;

struct Known {
    path: PathBuf,
    changed: (Option<SystemTime>, u64),
    verifier: Arc<WebPkiServerVerifier>,
}

static KNOWN: Mutex<Vec<Known>> = Mutex::new(Vec::new());

/// What trusts those in this file, or those that the host trusts.
pub(super) async fn of(
    file: Option<&Path>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, String> {
    let (file, provider) = (file.map(Path::to_owned), Arc::clone(provider));
    let name = file.clone().unwrap_or_default();
    files::off_thread(&name, move || load(file, provider)).await
}

fn load(
    file: Option<PathBuf>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, String> {
    let system = || PLACES.iter().map(PathBuf::from).find(|path| path.is_file());
    let path = file.or_else(system).ok_or_else(|| {
        format!(
            "this host has no list of certificates to trust in {}: install ca-certificates, or set `ca_file`",
            PLACES.join(", ")
        )
    })?;
    let failed = |why: String| format!("{}: {why}", path.display());
    let meta = std::fs::metadata(&path).map_err(|error| failed(error.to_string()))?;
    let changed = stamp(&meta);
    // Not held while the file is read: that may take for ever.
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let same = |it: &&Known| it.path == path && it.changed == changed;
    if let Some(same) = known().iter().find(same) {
        return Ok(Arc::clone(&same.verifier));
    }
    let text = files::read(&path, SIZE).map_err(failed)?;
    let mut roots = RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(&text) {
        let der = der.map_err(|why| failed(format!("it is no PEM: {why}")))?;
        // Lists have a few that are too odd to be used; a file without any that can be is refused below.
        let _ = roots.add(der);
    }
    if roots.is_empty() {
        return Err(failed(
            "there is no certificate in it that can be trusted".to_owned(),
        ));
    }
    let building = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = building.build().map_err(|why| failed(why.to_string()))?;
    let mut known = known();
    known.retain(|it| it.path != path);
    if known.len() >= FILES {
        known.remove(0);
    }
    known.push(Known {
        path,
        changed,
        verifier: Arc::clone(&verifier),
    });
    Ok(verifier)
}

fn stamp(meta: &Metadata) -> (Option<SystemTime>, u64) {
    (meta.modified().ok(), meta.len())
}
