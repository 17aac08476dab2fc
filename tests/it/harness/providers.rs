//! Fakes of the providers, each written from what the real one documents: they check what they receive.

pub(crate) mod aws_sns;
pub(crate) mod http;
pub(crate) mod mailgun;
pub(crate) mod messagebird;
pub(crate) mod plivo;
pub(crate) mod postmark;
pub(crate) mod resend;
pub(crate) mod sendgrid;
pub(crate) mod ses;
pub(crate) mod sinch;
pub(crate) mod smtp;
pub(crate) mod twilio;
pub(crate) mod vonage;
