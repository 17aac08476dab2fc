//! A small auth backend to stand behind the gateway in `tollgate demo`, and the words that invite to try it.
//!
//! It is a stage set: two users with public passwords, one code that is always right, no mail ever sent. What
//! is real is its face: the paths, status codes and JSON of a common auth API, with tokens that the gateway
//! can check.

mod api;
mod token;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use secrecy::SecretString;
use tokio::net::TcpListener;

use crate::clock::Clock;

/// Serves the demo backend on `listener` until `shutdown` comes true, then lets open requests finish.
///
/// Errors are those of the listener.
pub async fn backend(
    listener: TcpListener,
    secrets: Secrets,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let Secrets { tokens, proofs } = secrets;
    let router = api::router(token::Signer::new(&tokens), token::Signer::new(&proofs), Clock::system());
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await
}

/// What the demo backend shares with the gateway.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// Signs the tokens that a login hands out (HS256, one hour): the gateway's `user.jwt` knows the same.
    pub tokens: SecretString,
    /// Signs the gateway's proofs of a phone number: its `otp.token` knows the same.
    pub proofs: SecretString,
}

/// Where the parts of the demo listen.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub gateway: SocketAddr,
    pub admin: SocketAddr,
    pub backend: SocketAddr,
}

/// What the demo prints once it is up: its addresses, and commands to try that end in a 429.
pub fn banner(addresses: &Addresses) -> String {
    let [gateway, admin, backend] = [addresses.gateway, addresses.admin, addresses.backend]
        .map(|address| format!("http://{}", at_home(address)));
    let json = "-H 'content-type: application/json'";
    let shown = "grep -iE '^HTTP|ratelimit|retry-after'";
    format!(
        r#"Tollgate is up.

  gateway  {gateway}
  backend  {backend}   behind the gateway
  admin    {admin}   who is limited and blocked, and why; also /metrics /healthz /readyz

To try in another terminal:

  # Ask for a code three times: 200 with the headers of the limit, then 429 with Retry-After.
  for i in 1 2 3; do curl -si {gateway}/api/auth/request-otp/ {json} -d '{{"email":"ada@example.com"}}' | {shown}; done

  # Log in.
  TOKEN=$(curl -s {gateway}/api/auth/login {json} -d '{{"username":"demo","password":"demo"}}' | cut -d'"' -f4)

  # The profile, counted by user.
  curl -si {gateway}/api/profile -H "authorization: Bearer $TOKEN"

  # Log in by phone: a code to a number, which stands in this log and nowhere else; the code for a proof; the proof for a token.
  ID=$(curl -s {gateway}/otp/send {json} -d '{{"phone":"+14155550123","purpose":"login"}}' | sed 's/.*"id":"\([^"]*\)".*/\1/')
  read -p 'The code in the log: ' CODE
  PROOF=$(curl -s {gateway}/otp/verify {json} -d '{{"id":"'$ID'","code":"'$CODE'"}}' | cut -d'"' -f4)
  curl -si {gateway}/api/auth/phone-login {json} -d '{{"proof":"'$PROOF'"}}'

  # Guess passwords: 401 five times, then 429. Who is blocked, and the button to let them go: {admin}
  for i in 1 2 3 4 5 6; do curl -si {gateway}/api/auth/login {json} -d '{{"username":"user'$i'","password":"guess"}}' | {shown}; done

Ctrl-C stops it.
"#
    )
}

/// An address that a client on this machine can connect to: a wildcard address is only good for listening.
fn at_home(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_names_addresses_that_a_client_can_reach() {
        let text = banner(&Addresses {
            gateway: "0.0.0.0:8080".parse().unwrap(),
            admin: "[::]:9180".parse().unwrap(),
            backend: "127.0.0.1:8000".parse().unwrap(),
        });
        for part in ["http://127.0.0.1:8080/api/auth/login", "http://[::1]:9180", "127.0.0.1:8000"] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
        assert!(!text.contains("0.0.0.0"), "{text}");
        assert_eq!(text.lines().filter(|line| line.contains("curl -s")).count(), 7, "{text}");
    }
}
