//! How refusals look: the operator's body, the header families, who may read them across origins.

use http::{HeaderValue, StatusCode};
use thiserror::Error;

/// The refusal of a limit, as the operator words it.
#[derive(Clone, Debug)]
pub struct LimitedAnswer {
    pub status: StatusCode,
    pub content_type: HeaderValue,
    pub body: Template,
}

impl Default for LimitedAnswer {
    /// The body of Django REST framework, so that existing front ends keep working.
    fn default() -> LimitedAnswer {
        LimitedAnswer {
            status: StatusCode::TOO_MANY_REQUESTS,
            content_type: HeaderValue::from_static("application/json"),
            body: Template {
                parts: Box::new([
                    Part::Text(r#"{"detail": "Request was throttled. Expected available in "#.into()),
                    Part::Value(Variable::RetryAfter),
                    Part::Text(r#" seconds."}"#.into()),
                ]),
            },
        }
    }
}

/// Which limit headers answers carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderStyle {
    pub legacy: LegacyHeaders,
    pub ietf: IetfHeaders,
}

/// `X-RateLimit-Limit`, `-Remaining`, `-Reset`, and what the last of them counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegacyHeaders {
    Off,
    /// Seconds since the Unix epoch.
    ResetEpoch,
    /// Seconds from now.
    ResetDelta,
}

/// `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IetfHeaders {
    Off,
    On,
}

/// Which browser origins may read a refusal and its headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cors {
    #[default]
    Nobody,
    Anybody,
    Origins(Box<[HeaderValue]>),
}

/// A body with `{{ variables }}`, taken apart when the file is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Box<[Part]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Value(Variable),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variable {
    RetryAfter,
    Limit,
    Window,
    Route,
}

/// What a [`Template`] can say.
#[derive(Clone, Copy, Debug)]
pub struct TemplateValues<'a> {
    pub retry_after_s: u64,
    /// The size of the exceeded window.
    pub limit: u32,
    /// Its label.
    pub window: &'a str,
    pub route: &'a str,
}

/// Why a template cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TemplateError {
    #[error("`{{{{` without `}}}}`")]
    Unclosed,
    #[error("unknown variable {name:?}; there are {}", Variable::names())]
    Unknown { name: Box<str> },
}

impl Variable {
    const ALL: [(&'static str, Variable); 4] = [
        ("retry_after", Variable::RetryAfter),
        ("limit", Variable::Limit),
        ("window", Variable::Window),
        ("route", Variable::Route),
    ];

    fn names() -> String {
        Variable::ALL.map(|(name, _)| name).join(", ")
    }
}

impl Template {
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, following) = after.split_once("}}").ok_or(TemplateError::Unclosed)?;
            let name = name.trim();
            let known = Variable::ALL.iter().find(|(known, _)| *known == name);
            let (_, variable) = known.ok_or_else(|| TemplateError::Unknown { name: name.into() })?;
            parts.push(Part::Text(before.into()));
            parts.push(Part::Value(*variable));
            rest = following;
        }
        parts.push(Part::Text(rest.into()));
        Ok(Template { parts: parts.into_boxed_slice() })
    }

    pub fn render(&self, values: &TemplateValues<'_>) -> String {
        let mut body = String::with_capacity(128);
        for part in &*self.parts {
            match part {
                Part::Text(text) => body.push_str(text),
                Part::Value(Variable::Window) => body.push_str(values.window),
                Part::Value(Variable::Route) => body.push_str(values.route),
                Part::Value(Variable::RetryAfter) => {
                    body.push_str(itoa::Buffer::new().format(values.retry_after_s));
                }
                Part::Value(Variable::Limit) => body.push_str(itoa::Buffer::new().format(values.limit)),
            }
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: TemplateValues<'static> =
        TemplateValues { retry_after_s: 37, limit: 3, window: "hourly", route: "login" };

    #[test]
    fn fills_in_variables_whatever_the_spacing() {
        let check = |text: &str, expected: &str| {
            assert_eq!(Template::parse(text).unwrap().render(&VALUES), expected, "{text}");
        };
        check("wait {{ retry_after }} s", "wait 37 s");
        check("{{retry_after}}{{limit}}", "373");
        check("{{ window }}/{{ route }}", "hourly/login");
        check("plain { braces }", "plain { braces }");
        check("", "");
    }

    #[test]
    fn names_what_is_wrong() {
        assert_eq!(Template::parse("{{ retry_after"), Err(TemplateError::Unclosed));
        let error = Template::parse("{{ retry }}").unwrap_err();
        let expected = "unknown variable \"retry\"; there are retry_after, limit, window, route";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn the_default_is_the_body_of_django_rest_framework() {
        assert_eq!(
            LimitedAnswer::default().body.render(&VALUES),
            r#"{"detail": "Request was throttled. Expected available in 37 seconds."}"#
        );
    }
}
