//! Connections to other parties' servers: the PSP's, the push service's.

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;

/// HTTP/1.1, over TLS where the address says so, with the public roots.
pub(crate) fn connector(mut tcp: HttpConnector) -> HttpsConnector<HttpConnector> {
    tcp.enforce_http(false);
    HttpsConnectorBuilder::new()
        .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
        .expect("ring has the versions and suites of TLS that rustls wants")
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp)
}
