//! The providers' adapters, each before a fake of its provider.

mod aws_sns;
mod common;
mod hostile;
mod http;
mod mailgun;
mod messagebird;
mod plivo;
mod postmark;
mod resend;
mod sendgrid;
mod ses;
mod sinch;
mod smtp;
mod twilio;
mod vonage;
