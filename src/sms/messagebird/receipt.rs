//! Status reports: a GET with all that is to be said in its query.

use ::http::Method;

use super::table;
use crate::sms::{DeliveryState, Price, ReceiptFault, ReceiptRequest, Report, api};

pub(super) fn read(request: &ReceiptRequest<'_>) -> Result<Vec<Report>, ReceiptFault> {
    if *request.method != Method::GET {
        return Err(ReceiptFault::Malformed("not a GET"));
    }
    let undecodable = ReceiptFault::Malformed("a query that does not decode");
    let params = api::read_form(request.query.as_bytes()).ok_or(undecodable)?;
    let only = |name: &str| {
        let mut values = params.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(ReceiptFault::Malformed("two values of one name")),
        }
    };
    let (Some(id), Some(status)) = (only("id")?, only("status")?) else {
        return Err(ReceiptFault::Malformed("without id or status"));
    };
    if !api::is_id(id) {
        return Err(ReceiptFault::Malformed("an id that is none"));
    }
    let error = only("statusErrorCode")?.and_then(|code| code.parse().ok());
    let price = only("price[amount]")?.and_then(api::micros).zip(only("price[currency]")?);
    let price = price.map(|(micros, currency)| Price { micros, currency: currency.to_uppercase().into() });
    Ok(report(id, status, error).map(|report| Report { price, ..report }).into_iter().collect())
}

/// From reports and look-ups. None: the state is not one of those that we know.
pub(super) fn report(id: &str, status: &str, error: Option<u32>) -> Option<Report> {
    let (state, is_over) = match status {
        "scheduled" | "buffered" => (DeliveryState::Queued, false),
        "sent" => (DeliveryState::Sent, false),
        "delivered" => (DeliveryState::Delivered, false),
        "expired" => (DeliveryState::Expired, true),
        "delivery_failed" => (DeliveryState::Failed, true),
        _ => return None,
    };
    let refused = error.filter(|_| is_over).and_then(table::undelivered);
    Some(Report { message_id: id.into(), state, refused, price: None })
}
