//! What checks over the network share: places, connections, TLS, certificates, bounded reading.

#[path = "net/banner.rs"]
pub(super) mod banner;
#[path = "net/certificate.rs"]
pub(super) mod certificate;
#[path = "net/connect.rs"]
pub(super) mod connect;
#[path = "net/der.rs"]
mod der;
#[path = "net/doing.rs"]
pub(super) mod doing;
#[path = "net/place.rs"]
pub(super) mod place;
#[path = "net/roots.rs"]
mod roots;
#[path = "net/starttls.rs"]
pub(super) mod starttls;
#[path = "net/tls.rs"]
pub(super) mod tls;
