//! The baseline of the side-by-side run: Pingora with nothing on it but an upstream and one refusal of its own.
//!
//! usage: bare_pingora PORT [THREADS]
//!
//! Proxies to 127.0.0.1:9000; paths under /deny are answered here with a 429. Without a port, as under
//! `cargo bench`, it says so and ends.

use std::error::Error;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora::modules::http::HttpModules;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;

// The gateway's allocator: what is compared is the work of the proxies.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const REFUSAL: Bytes =
    Bytes::from_static(br#"{"detail": "Request was throttled. Expected available in 60 seconds."}"#);

struct Bare {
    upstream: HttpPeer,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, _ctx: &mut ()) -> pingora::Result<bool> {
        if !session.req_header().uri.path().starts_with("/deny") {
            return Ok(false);
        }
        let mut head = ResponseHeader::build_no_case(429, Some(3))?;
        head.insert_header(http::header::CONTENT_TYPE, "application/json")?;
        head.insert_header(http::header::CONTENT_LENGTH, REFUSAL.len())?;
        head.insert_header(http::header::RETRY_AFTER, "60")?;
        session.write_response_header(Box::new(head), false).await?;
        session.write_response_body(Some(REFUSAL), true).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(self.upstream.clone()))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let Some(port) = arguments.next() else {
        println!("bare_pingora: no port given; benches/side_by_side.py runs this beside the gateway");
        return Ok(());
    };
    let port: u16 = port.parse()?;
    let threads = arguments.next().map_or(Ok(1), |threads| threads.parse())?;
    let mut server = Server::new_with_opt_and_conf(None, ServerConf { threads, ..ServerConf::default() });
    server.bootstrap();
    let bare = Bare { upstream: HttpPeer::new(("127.0.0.1", 9000), false, String::new()) };
    let mut service = http_proxy_service(&server.configuration, bare);
    service.add_tcp(&format!("127.0.0.1:{port}"));
    server.add_service(service);
    server.run_forever()
}
