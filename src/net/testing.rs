//! Places on this machine at which nobody answers, for tests.

use std::net::SocketAddr;
use tokio::net::TcpSocket;

/// A port that refuses connections. It is bound while this lives, so that nobody else gets it, and never listens.
pub(crate) struct DeafPort(TcpSocket);

impl DeafPort {
    pub(crate) fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }
}
