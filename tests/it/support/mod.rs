//! What the tests stand on: homes, the real binary, fakes and peers.

pub mod aimock;
pub mod counter;
pub mod fake_llm;
pub mod fake_thinkers;
pub mod home;
pub mod http;
pub mod mcp_client;
pub mod peers;
pub mod source;
pub mod station;
pub mod stdio;
pub mod store_dump;
