//! What answers routes of one-time codes, and what of it lasts over reloads.

use std::sync::Arc;
use std::time::Duration;

use super::data_dir::DataDir;
use crate::clock::Clock;
use crate::http_client::HttpClient;
use crate::journal::{Event, EventKind, Journal};
use crate::otp::desk::Desk;
use crate::otp::fraud::Fraud;
use crate::otp::spec::OtpSpec;
use crate::otp::{Deliveries, Enquiries, Lasting, Letters, Otp, OtpError};
use crate::sms::dispatch::{News, Notice, ProviderStates};
use crate::store::Store;
use crate::telemetry::Metrics;

/// How long a connection to a provider may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Connects to nobody yet.
pub(super) fn lasting(
    store: &Arc<Store>,
    journal: &Journal,
    data: &DataDir,
    metrics: &Metrics,
    clock: &Clock,
) -> Arc<Lasting> {
    let lasting = Lasting {
        desk: Desk::new(Arc::clone(store), journal.clone()),
        providers: ProviderStates::new(noted_in(journal, clock)),
        deliveries: Deliveries::new(),
        enquiries: Enquiries::default(),
        letters: Letters::default(),
        fraud: Fraud::new(),
        client: Arc::new(HttpClient::new(CONNECT_TIMEOUT)),
        journal: journal.clone(),
        metrics: metrics.sms(),
        clock: clock.clone(),
        own_secret: data.codes_secret,
    };
    lasting.recall_spending();
    Arc::new(lasting)
}

/// The codes of one configuration.
pub(super) fn otp(spec: OtpSpec, lasting: &Arc<Lasting>) -> Result<Arc<Otp>, OtpError> {
    Otp::new(spec, Arc::clone(lasting)).map(Arc::new)
}

/// What changed at a provider, as an event.
fn noted_in(journal: &Journal, clock: &Clock) -> impl Fn(&Notice) + Send + Sync + 'static {
    let (journal, clock) = (journal.clone(), clock.clone());
    move |notice| {
        let kind = match &notice.news {
            News::Down { .. } | News::SpentOut { .. } | News::BadRequest { .. } | News::Doubted { .. } => {
                EventKind::ProviderDown
            }
            News::Up | News::Trusted { .. } => EventKind::ProviderUp,
        };
        journal.note(Event { detail: Some(notice.to_string().into()), ..Event::new(kind, clock.now()) });
    }
}
