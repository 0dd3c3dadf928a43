//! The bodies of the fuzz targets: functions of bytes that panic when a promise of brim's is broken.
//!
//! No fuzzer here, so that a plain test can replay the corpus (`tests/corpus.rs`). The binaries in `fuzz/fuzz_targets/`
//! hand them to libFuzzer.

#![expect(clippy::unwrap_used, reason = "a target that cannot be set up has nothing to say")]
#![expect(clippy::missing_panics_doc, reason = "to panic is how a target reports")]

mod answer;
mod bundle;
mod client;
mod control;
mod handshake;
mod input;
mod log;
mod options;
mod scenario;
mod server;
mod store;
mod tls;
mod transmission;

pub use answer::answer;
pub use bundle::bundle;
pub use client::client;
pub use control::control;
pub use handshake::{client_handshake, client_replies, server_handshake, server_options};
pub use log::log;
pub use scenario::scenario;
pub use server::server;
pub use store::store;
pub use tls::{client_tls, server_tls};
pub use transmission::{extended_request, reply, request, simple_reply, status_query};

/// What a target does with some bytes.
pub type Body = fn(&[u8]);

/// Every target by the name of its binary and of its corpus.
pub const TARGETS: [(&str, Body); 19] = [
    ("answer", answer),
    ("bundle", bundle),
    ("client", client),
    ("client_handshake", client_handshake),
    ("client_replies", client_replies),
    ("client_tls", client_tls),
    ("control", control),
    ("extended_request", extended_request),
    ("log", log),
    ("reply", reply),
    ("request", request),
    ("scenario", scenario),
    ("server", server),
    ("server_handshake", server_handshake),
    ("server_options", server_options),
    ("server_tls", server_tls),
    ("simple_reply", simple_reply),
    ("status_query", status_query),
    ("store", store),
];
