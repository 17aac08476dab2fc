//! Many at once: nobody gets two codes, three tries are three, and a code is used once.

use serde_json::json;

use super::{PHONE, Stage, at_once, id_of, wrong};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_requests_at_once_send_one_code() {
    let stage = Stage::set("").await;
    let body = json!({ "phone": PHONE }).to_string();
    let answers = at_once(100, stage.gateway.address, "/otp/send", |_| body.clone()).await;
    let sent = answers.iter().filter(|answer| answer.status == 202).count();
    let limited = answers.iter().filter(|answer| answer.status == 429).count();
    assert_eq!((sent, limited), (1, 99));
    stage.code(1).await;
    assert_eq!(stage.provider.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_guesses_at_once_are_three() {
    let stage = Stage::set("limits: [{ key: phone, windows: { daily: 100/day } }]").await;
    let id = id_of(&stage.send(PHONE).await);
    let code = stage.code(1).await;
    let guess = wrong(&code);
    let body = json!({ "id": id, "code": guess }).to_string();
    let answers = at_once(1000, stage.gateway.address, "/otp/verify", |_| body.clone()).await;
    let status = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((status(401), status(410)), (3, 997));
    let right = stage.verify(&id, &code).await;
    assert_eq!(right.status, 410);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_that_is_given_a_hundred_times_at_once_is_right_once() {
    let settings = "code: { attempts: 10 }, limits: [{ key: phone, windows: { daily: 100/day } }]";
    let stage = Stage::set(settings).await;
    let id = id_of(&stage.send(PHONE).await);
    let code = stage.code(1).await;
    let body = json!({ "id": id, "code": code }).to_string();
    let answers = at_once(100, stage.gateway.address, "/otp/verify", |_| body.clone()).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 410)));
}
