//! A REST interface that answers by a function, and tells what it was asked.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// How long anything is waited for before a test fails.
pub(in crate::store::upstash) const PATIENCE: Duration = Duration::from_secs(10);

pub(in crate::store::upstash) type Commands = Vec<Vec<String>>;
type Answer = Box<dyn Fn(&Commands) -> (StatusCode, String) + Send + Sync>;

/// On a port of its own; gone when dropped.
pub(in crate::store::upstash) struct Api {
    address: SocketAddr,
    desk: Arc<Desk>,
    serving: JoinHandle<()>,
}

struct Desk {
    answer: Answer,
    asked: Mutex<Vec<(HeaderMap, Commands)>>,
}

impl Api {
    pub(in crate::store::upstash) async fn start(
        answer: impl Fn(&Commands) -> (StatusCode, String) + Send + Sync + 'static,
    ) -> Api {
        let desk = Arc::new(Desk { answer: Box::new(answer), asked: Mutex::default() });
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().route("/pipeline", post(Desk::serve)).with_state(Arc::clone(&desk));
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Api { address, desk, serving }
    }

    /// Answers every command with its words.
    pub(in crate::store::upstash) fn echo(commands: &Commands) -> (StatusCode, String) {
        let replies: Vec<Value> = commands.iter().map(|words| json!({ "result": words })).collect();
        (StatusCode::OK, Value::from(replies).to_string())
    }

    pub(in crate::store::upstash) fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(in crate::store::upstash) fn asked(&self) -> Vec<(HeaderMap, Commands)> {
        self.desk.asked.lock().clone()
    }

    /// How many commands came with each request.
    pub(in crate::store::upstash) fn batch_sizes(&self) -> Vec<usize> {
        self.desk.asked.lock().iter().map(|(_, commands)| commands.len()).collect()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Desk {
    async fn serve(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: String) -> (StatusCode, String) {
        let commands: Commands = serde_json::from_str(&body).expect("a pipeline");
        desk.asked.lock().push((headers, commands.clone()));
        (desk.answer)(&commands)
    }
}
