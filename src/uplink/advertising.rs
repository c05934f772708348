//! advertising
