//! Codes of gateways that share a store.

use serde_json::{Value, json};

use super::{PHONE, ROUTES, SECRET, at_once, code_of, sms, wrong};
use crate::harness::backend::{Backend, Reply};
use crate::harness::binary::Running;
use crate::harness::client::{Answer, Client};
use crate::harness::redis::RedisServer;

struct Site {
    redis: RedisServer,
    provider: Backend,
    gateways: Vec<Running>,
}

impl Site {
    async fn set(settings: &str) -> Site {
        let (redis, backend) = (RedisServer::start().await, Backend::ok().await);
        let provider = Backend::start(|_| Reply::json(200, r#"{"id":"m-1"}"#)).await;
        let store = format!("store: {{ kind: redis, url: \"{}\", timeout: 5s }}\n", redis.url());
        let otp = format!("otp: {{ secret: \"{SECRET}\", brand: Acme, {settings} }}\n");
        let rules = format!("{store}{otp}{}{ROUTES}", sms(&provider));
        let mut gateways = Vec::new();
        for _ in 0..2 {
            gateways.push(Running::start(&backend, &rules).await);
        }
        Site { redis, provider, gateways }
    }

    async fn post(&self, gateway: usize, path: &str, body: &Value) -> Answer {
        let mut client = Client::connect(self.gateways[gateway].address).await;
        client.request("POST", path).json(&body.to_string()).send().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_of_one_gateway_is_good_at_the_other() {
    let site = Site::set("").await;
    let sent = site.post(0, "/otp/send", &json!({ "phone": PHONE })).await;
    assert_eq!(sent.status, 202, "{}", sent.text());
    let id = sent.json()["id"].clone();
    let code = code_of(&site.provider.wait_for(1).await[0]);
    let limited = site.post(1, "/otp/send", &json!({ "phone": PHONE })).await;
    assert_eq!(limited.status, 429, "the other gateway waits as well");
    let guess = site.post(1, "/otp/verify", &json!({ "id": id, "code": wrong(&code) })).await;
    assert_eq!(guess.json()["attempts_left"], 2);
    let right = site.post(0, "/otp/verify", &json!({ "id": id, "code": code })).await;
    assert_eq!(right.status, 200);
    let again = site.post(1, "/otp/verify", &json!({ "id": id, "code": code })).await;
    assert_eq!(again.json()["code"], "used");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_through_two_gateways_get_no_more_than_through_one() {
    let site = Site::set("limits: [{ key: phone, windows: { daily: 100/day } }]").await;
    let body = json!({ "phone": PHONE }).to_string();
    let [one, other] = [site.gateways[0].address, site.gateways[1].address];
    let (a, b) = tokio::join!(
        at_once(50, one, "/otp/send", |_| body.clone()),
        at_once(50, other, "/otp/send", |_| body.clone())
    );
    let answers: Vec<Answer> = a.into_iter().chain(b).collect();
    let sent: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 202).collect();
    assert_eq!(sent.len(), 1);
    let id = sent[0].json()["id"].clone();
    let code = code_of(&site.provider.wait_for(1).await[0]);
    assert_eq!(site.provider.count(), 1);

    let body = json!({ "id": id, "code": wrong(&code) }).to_string();
    let (a, b) = tokio::join!(
        at_once(250, one, "/otp/verify", |_| body.clone()),
        at_once(250, other, "/otp/verify", |_| body.clone())
    );
    let compared = a.iter().chain(&b).filter(|answer| answer.status == 401).count();
    assert_eq!(compared, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_store_nothing_is_sent_or_compared() {
    let mut site = Site::set("").await;
    let sent = site.post(0, "/otp/send", &json!({ "phone": PHONE })).await;
    let id = sent.json()["id"].clone();
    let code = code_of(&site.provider.wait_for(1).await[0]);
    site.redis.kill_9();
    for (path, body) in [
        ("/otp/send", json!({ "phone": "+14155550199" })),
        ("/otp/verify", json!({ "id": id, "code": code })),
    ] {
        let answer = site.post(0, path, &body).await;
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (503, Some("store_unavailable")),
            "{path}"
        );
    }
    assert_eq!(site.provider.count(), 1);
}
