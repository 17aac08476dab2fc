//! Names of query parameters, cookies and form fields, in all the spellings backends take for one.

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

use super::fold::fold_compatible;

/// Why a query parameter, cookie or header has no one value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FieldFault {
    #[error("{0} is there several times with different values; send it once.")]
    Repeated(FieldName),
    #[error("{0} is spelled as an array or object; send it once, as one text.")]
    NotOneValue(FieldName),
    #[error("{0} is not valid UTF-8.")]
    NotUtf8(FieldName),
    #[error("The query string {0}.")]
    Query(PairFault),
    #[error("{0} holds quotes or backslashes that parsers read differently.")]
    Quoting(FieldName),
    #[error("The Cookie header uses $Version (RFC 2965), which parsers read differently.")]
    CookieVersion,
}

/// A value of the request, for people: `Query parameter "email"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldName {
    pub place: Place,
    pub name: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Query,
    Cookie,
    Header,
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.place {
            Place::Query => "Query parameter",
            Place::Cookie => "Cookie",
            Place::Header => "Header",
        };
        write!(f, "{place} {:?}", self.name)
    }
}

/// Why a list of `name=value` pairs cannot be read the same by all backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PairFault {
    #[error("contains a % that is not followed by two hexadecimal digits")]
    Escape,
    #[error("does not decode to valid UTF-8")]
    NotUtf8,
    #[error("contains a NUL character")]
    Nul,
    #[error("contains a raw semicolon, which some parsers split at; write %3B")]
    Semicolon,
}

/// A wanted name, or the names down to a nested one, folded for comparison with [`Wanted::spelled_by`].
pub(super) struct Wanted<'a> {
    names: smallvec::SmallVec<[Cow<'a, str>; 2]>,
}

/// How a name relates to a wanted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    Other,
    /// Some backend takes it for the wanted name.
    Wanted,
    /// Some backend would make the wanted name an array or object of it, or its parent a text.
    Conflict,
}

impl<'a> Wanted<'a> {
    pub(super) fn new(names: impl Iterator<Item = &'a str>) -> Wanted<'a> {
        Wanted { names: names.map(fold_name).collect() }
    }

    /// Judges a decoded name of a form, query or cookie.
    ///
    /// PHP trims spaces on the left and turns spaces, dots and an unclosed `[` into underscores;
    /// PHP, Rails and Express read brackets as nesting, Spring and ASP.NET dots; Rack drops
    /// stray brackets; ASP.NET and Go compare names whatever their letter case.
    pub(super) fn spelled_by(&self, name: &str) -> Spelling {
        let name = name.trim_start();
        match self.judge(name) {
            Spelling::Other if name.ends_with(char::is_whitespace) => self.judge(name.trim_end()),
            judged @ (Spelling::Other | Spelling::Wanted | Spelling::Conflict) => judged,
        }
    }

    fn judge(&self, name: &str) -> Spelling {
        let Some(bracket) = name.find(['[', ']']) else { return self.judge_plain(name) };
        let (base, brackets) = name.split_at(bracket);
        let keys = brackets.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        match keys {
            Some(keys) if !base.is_empty() && keys.split("][").all(|key| !key.contains(['[', ']'])) => {
                let flat = self.relate([base].into_iter().chain(keys.split("][")));
                let nested = self.relate(base.split('.').chain(keys.split("][")));
                stronger(flat, nested)
            }
            Some(_) | None => self.judge_stray_brackets(name),
        }
    }

    fn judge_plain(&self, name: &str) -> Spelling {
        match &*self.names {
            [only] if fold_name(name) == *only => Spelling::Wanted,
            _ => self.relate(name.split('.')),
        }
    }

    fn judge_stray_brackets(&self, name: &str) -> Spelling {
        let first = name.split(['[', ']']).map(str::trim).find(|piece| !piece.is_empty()).unwrap_or_default();
        let underscored = name.replace(['[', ']'], "_");
        let is_close = self.names.first().is_some_and(|wanted| {
            [first, first.split('.').next().unwrap_or_default(), &underscored]
                .into_iter()
                .any(|piece| fold_name(piece) == *wanted)
        });
        if is_close { Spelling::Conflict } else { Spelling::Other }
    }

    fn relate<'s>(&self, segments: impl Iterator<Item = &'s str>) -> Spelling {
        let mut wanted = self.names.iter();
        for (index, segment) in segments.enumerate() {
            match wanted.next() {
                None => return Spelling::Conflict,
                Some(_) if index > 0 && segment.trim().is_empty() => return Spelling::Conflict,
                Some(name) if fold_name(segment.trim()) == *name => {}
                Some(_) => return Spelling::Other,
            }
        }
        if wanted.next().is_none() { Spelling::Wanted } else { Spelling::Conflict }
    }
}

fn stronger(one: Spelling, other: Spelling) -> Spelling {
    match (one, other) {
        (Spelling::Wanted, _) | (_, Spelling::Wanted) => Spelling::Wanted,
        (Spelling::Conflict, _) | (_, Spelling::Conflict) => Spelling::Conflict,
        (Spelling::Other, Spelling::Other) => Spelling::Other,
    }
}

/// Folded, with what PHP turns into underscores turned; borrowed when nothing changes.
fn fold_name(name: &str) -> Cow<'_, str> {
    let folded = fold_compatible(name);
    let is_turned = |letter: char| letter == '.' || letter.is_whitespace();
    if folded.contains(is_turned) { Cow::Owned(folded.replace(is_turned, "_")) } else { folded }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wanted: &str, name: &str, expected: Spelling) {
        assert_eq!(Wanted::new(wanted.split('/')).spelled_by(name), expected, "{name:?} for {wanted:?}");
    }

    #[test]
    fn a_flat_name_is_known_in_every_spelling() {
        for name in ["email", "EMAIL", "Email", " email", "  email", "email ", "ｅmail", "eMaıl", "\temail"]
        {
            check("email", name, Spelling::Wanted);
        }
        for name in ["e_mail", "e.mail", "e mail", "E.Mail", " e.mail"] {
            check("e_mail", name, Spelling::Wanted);
        }
        for name in [
            "email[]",
            "email[x]",
            "email[0]",
            "email[][x]",
            "email.x",
            "email.0",
            "[email]",
            "email]",
            "email[",
            "email[x",
            "email[]]",
            "[[email",
            "Email[]",
            " email[]",
            "email[x]y",
        ] {
            check("email", name, Spelling::Conflict);
        }
        check("e_mail", "e[mail", Spelling::Conflict);
        check("e_mail", "e.mail[]", Spelling::Conflict);
        for name in
            ["", "emails", "e_mail", "my_email", "user[email]", "user.email", "x[email", "[]", "[", "."]
        {
            check("email", name, Spelling::Other);
        }
    }

    #[test]
    fn a_nested_name_is_known_in_every_spelling() {
        for name in ["user[email]", "user.email", "User[EMAIL]", " user[email]", "user[ email]", "USER.email"]
        {
            check("user/email", name, Spelling::Wanted);
        }
        check("my_user/email", "my.user[email]", Spelling::Wanted);
        check("a/b/c", "a[b][c]", Spelling::Wanted);
        check("a/b/c", "a.b.c", Spelling::Wanted);
        check("a/b/c", "a.b[c]", Spelling::Wanted);
        for name in [
            "user",
            "user[email][]",
            "user[email][x]",
            "user[]",
            "user[][email]",
            "user.email.x",
            "user.email[]",
            "user..email",
            "user[email",
            "user[email]x",
            "[user][email]",
            "user[[email]]",
        ] {
            check("user/email", name, Spelling::Conflict);
        }
        for name in ["email", "user_email", "users[email]", "user[name]", "user[0][email]", "user.name"] {
            check("user/email", name, Spelling::Other);
        }
    }
}
