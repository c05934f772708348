//! The endpoint: one UDP socket with room for bursts, and the bounds that QUIC keeps for us.

use std::{io, net::SocketAddr, sync::Arc};

use quinn::{
    Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt, crypto::rustls::QuicServerConfig,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::Config;

/// What a newcomer may send while it waits: its first packet, and what it repeats of it.
const WAITING_BYTES: u64 = 8 * 1024;

/// Newcomers that we have not looked at yet, beside those that wait.
const UNSEEN_MAX: usize = 4096;

/// What we send on the control stream; small, so that a peer that never reads cannot make us keep much.
const SEND_WINDOW_BYTES: u64 = 64 * 1024;

pub(super) fn endpoint(config: &Config, server: ServerConfig, endpoint: EndpointConfig) -> io::Result<Endpoint> {
    let socket = bind(config.listen, config.socket_receive_bytes)?;
    Endpoint::new(endpoint, Some(server), socket, Arc::new(quinn::TokioRuntime))
}

pub(super) fn server(config: &Config, tls: QuicServerConfig) -> ServerConfig {
    let mut server = ServerConfig::with_crypto(Arc::new(tls));
    server.transport_config(Arc::new(transport(config)));
    bound_newcomers(&mut server, config.waiting_max);
    server
}

pub(super) fn bound_newcomers(server: &mut ServerConfig, waiting_max: usize) {
    let incoming_max = waiting_max + UNSEEN_MAX;
    server.max_incoming(incoming_max);
    server.incoming_buffer_size(WAITING_BYTES);
    server.incoming_buffer_size_total(WAITING_BYTES * incoming_max as u64);
}

/// One stream of batches and one of control: a peer that opens more waits in vain.
fn transport(config: &Config) -> TransportConfig {
    let window = VarInt::from_u32(config.stream_window_bytes);
    let idle = IdleTimeout::from(VarInt::from_u32(config.idle_timeout_ms));
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(1))
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .stream_receive_window(window)
        .receive_window(window)
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(idle));
    transport
}

fn bind(address: SocketAddr, receive_bytes: usize) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    let granted = ask_for(&socket, receive_bytes)?;
    if granted < receive_bytes {
        tracing::warn!(
            asked = receive_bytes,
            granted,
            "the kernel keeps the socket's buffer small (net.core.rmem_max)"
        );
    }
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Bytes that the kernel grants a socket that asks for so many.
pub fn receive_bytes_granted(asked: usize) -> io::Result<usize> {
    ask_for(&Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?, asked)
}

fn ask_for(socket: &Socket, receive_bytes: usize) -> io::Result<usize> {
    socket.set_recv_buffer_size(receive_bytes)?;
    let told = socket.recv_buffer_size()?;
    // Linux doubles what it grants for its own bookkeeping, and tells the double (socket(7)).
    Ok(if cfg!(target_os = "linux") { told / 2 } else { told })
}
