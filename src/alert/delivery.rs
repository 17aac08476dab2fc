//! Gets messages to where they should go: signed, one at a time, tried again for a while.

use std::time::Duration;

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use secrecy::ExposeSecret as _;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::Webhook;
use super::notice::Notice;
use crate::clock::Clock;
use crate::decision::time::Timestamp;
use crate::http_client::{Bounds, HttpClient, HttpUrl};
use crate::telemetry::WebhookMetrics;

const SIGNATURE: HeaderName = HeaderName::from_static("x-tollgate-signature");
const DELIVERY: HeaderName = HeaderName::from_static("x-tollgate-delivery");

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const BOUNDS: Bounds = Bounds { within: Duration::from_secs(10), reply_bytes_max: 64 * 1024 };

pub(super) struct Sender {
    client: HttpClient,
    url: HttpUrl,
    key: hmac::Key,
    metrics: WebhookMetrics,
    clock: Clock,
    waits: [Duration; 4],
    random: SystemRandom,
}

/// What one try came to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Try {
    Delivered,
    /// It may work later.
    Failed(String),
    /// The same again would be refused again.
    Refused(StatusCode),
}

impl Sender {
    pub(super) fn new(
        webhook: Webhook,
        metrics: WebhookMetrics,
        clock: Clock,
        waits: [Duration; 4],
    ) -> Sender {
        let Webhook { url, secret } = webhook;
        Sender {
            client: HttpClient::new(CONNECT_TIMEOUT),
            url,
            key: hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes()),
            metrics,
            clock,
            waits,
            random: SystemRandom::new(),
        }
    }

    /// Delivers what comes, in its order, until nobody puts anything in any more.
    pub(super) async fn deliver(self, mut waiting: mpsc::Receiver<Notice>) {
        let mut is_well = true;
        while let Some(notice) = waiting.recv().await {
            let outcome = self.deliver_one(&notice).await;
            match &outcome {
                Try::Delivered => self.metrics.delivered(),
                Try::Failed(_) | Try::Refused(_) => self.metrics.failed(),
            }
            // Told when it changes: an outage of theirs must not fill our log.
            match (&outcome, is_well) {
                (Try::Delivered, false) => tracing::info!("the webhook takes alerts again"),
                (Try::Failed(why), true) => tracing::error!(%why, "an alert was given up: the webhook fails"),
                (Try::Refused(status), true) => {
                    tracing::error!(
                        status = status.as_u16(),
                        "an alert was given up: the webhook refuses it"
                    );
                }
                (Try::Delivered, true) | (Try::Failed(_) | Try::Refused(_), false) => {}
            }
            is_well = outcome == Try::Delivered;
        }
    }

    async fn deliver_one(&self, notice: &Notice) -> Try {
        let id = self.id();
        for wait in self.waits {
            match self.try_once(notice, &id).await {
                Try::Failed(_) => sleep(wait).await,
                outcome @ (Try::Delivered | Try::Refused(_)) => return outcome,
            }
        }
        self.try_once(notice, &id).await
    }

    async fn try_once(&self, notice: &Notice, id: &HeaderValue) -> Try {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(DELIVERY, id.clone());
        match HeaderValue::try_from(signature(&self.key, self.clock.now(), &notice.body)) {
            Ok(signature) => headers.insert(SIGNATURE, signature),
            Err(fault) => return Try::Failed(fault.to_string()),
        };
        match self.client.post(&self.url, headers, notice.body.clone(), BOUNDS).await {
            Ok(answer) if answer.status.is_success() => Try::Delivered,
            Ok(answer) => match answer.status {
                StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                    Try::Failed(answer.status.to_string())
                }
                status if status.is_client_error() => Try::Refused(status),
                status => Try::Failed(status.to_string()),
            },
            Err(error) => Try::Failed(error.to_string()),
        }
    }

    /// The same for each try of a message, so that one that arrived twice can be told.
    fn id(&self) -> HeaderValue {
        let mut random = [0; 16];
        // Without randomness all are alike, and none is lost for it.
        let _ = self.random.fill(&mut random);
        let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("0"))
    }
}

/// `t=1800000000,v1=…`: when, and HMAC-SHA256 over the time, a dot and the body.
fn signature(key: &hmac::Key, at: Timestamp, body: &[u8]) -> String {
    let at_s = at.floor_millis() / 1000;
    let mut context = hmac::Context::with_key(key);
    context.update(format!("{at_s}.").as_bytes());
    context.update(body);
    let tag: String = context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={at_s},v1={tag}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_others_compute() {
        // printf '1800000000.{"a":1}' | openssl dgst -sha256 -hmac 'a secret of the test'
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"a secret of the test");
        let at = Timestamp::from_millis(1_800_000_000_999);
        assert_eq!(
            signature(&key, at, br#"{"a":1}"#),
            "t=1800000000,v1=8045ecdf1c4e705187bf5a6e7a669e07b7141c74e089a959b2b9563d91e6e99c"
        );
    }
}
