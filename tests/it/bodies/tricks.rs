//! Bodies and framings that parsers read in several ways, and what must become of each.

pub(super) const JSON: &str = "application/json";
pub(super) const FORM: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data; boundary=b1";

/// What the gateway must make of a body.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    /// Counted by this address, which is what the backend reads.
    Counted(&'static str),
    /// Counted by the client's address: no backend reads one.
    Without,
    Refused(u16),
}
use Fate::{Counted, Refused, Without};

pub(super) const ANN: Fate = Counted("ann@example.com");

/// Content type, body and fate.
pub(super) const TRICKS: &[(&str, &[u8], Fate)] = &[
    // JSON that all read alike.
    (JSON, br#"{"email":"ann@example.com"}"#, ANN),
    (JSON, b" \r\n\t{ \"email\" :\r\n\"ann@example.com\" }\r\n ", ANN),
    (JSON, br#"{"\u0065mail":"\u0061nn\u0040example.com"}"#, ANN),
    (JSON, br#"{"Email":"ann@example.com"}"#, ANN),
    (JSON, br#"{"email":" Ann+tag@Example.COM "}"#, ANN),
    (JSON, br#"{"x":{"email":"bob@example.com"},"email":"ann@example.com"}"#, ANN),
    (JSON, br#"{"list":[{"email":"bob@example.com"}],"email":"ann@example.com","y":null}"#, ANN),
    (JSON, br#"{"emails":"bob@example.com","e_mail":"bob","email":"ann@example.com"}"#, ANN),
    (JSON, br#"{"x":"\"email\":\"bob\"","email":"ann@example.com"}"#, ANN),
    (JSON, br#"{"email":"\ud83d\ude00@example.com"}"#, Counted("\u{1f600}@example.com")),
    (JSON, br#"{"email":20000000000}"#, Counted("20000000000")),
    ("Application/JSON; Charset=\"UTF-8\"", br#"{"email":"ann@example.com"}"#, ANN),
    ("application/vnd.api+json", br#"{"email":"ann@example.com"}"#, ANN),
    (JSON, b"{}", Without),
    (JSON, br#"{"email":null}"#, Without),
    (JSON, br#"{"email":"  "}"#, Without),
    (JSON, br#"{"user":{"email":"bob@example.com"}}"#, Without),
    // JSON that parsers read differently.
    (JSON, br#"{"email":"ann@example.com","email":"bob@example.com"}"#, Refused(400)),
    (JSON, br#"{"email":"ann@example.com","email":"ann@example.com"}"#, Refused(400)),
    (JSON, br#"{"email":"ann@example.com","EMAIL":"bob@example.com"}"#, Refused(400)),
    (JSON, br#"{"email":"ann@example.com","\u0065mail":"bob@example.com"}"#, Refused(400)),
    (JSON, br#"{"email":null,"email":"bob@example.com"}"#, Refused(400)),
    (JSON, br#"{"email\u0000":"bob@example.com","email":"ann@example.com"}"#, Refused(400)),
    (JSON, br#"{"email":["ann@example.com"]}"#, Refused(400)),
    (JSON, br#"{"email":{"$ne":null}}"#, Refused(400)),
    (JSON, br#"{"email":true}"#, Refused(400)),
    (JSON, br#"{"email":1.0}"#, Refused(400)),
    (JSON, br#"{"email":1e3}"#, Refused(400)),
    (JSON, br#"{"email":9007199254740993}"#, Refused(400)),
    (JSON, br#"[{"email":"ann@example.com"}]"#, Refused(400)),
    (JSON, br#""email=ann@example.com""#, Refused(400)),
    (JSON, br#"{"email":"ann@example.com"}{"email":"bob@example.com"}"#, Refused(400)),
    (JSON, b"{\"email\":\"ann@example.com\"}\0", Refused(400)),
    (JSON, br#"{"email":"ann@example.com",}"#, Refused(400)),
    (JSON, br#"{"email":"ann@example.com"/*,"email":"bob"*/}"#, Refused(400)),
    (JSON, br#"{'email':'ann@example.com'}"#, Refused(400)),
    (JSON, br#"{email:"ann@example.com"}"#, Refused(400)),
    (JSON, br#"{"email":"ann@example.com""#, Refused(400)),
    (JSON, br#"{"email":"\ud800@example.com"}"#, Refused(400)),
    (JSON, br#"{"email":"\x61nn@example.com"}"#, Refused(400)),
    (JSON, b"{\"email\":\"ann\n@example.com\"}", Refused(400)),
    (JSON, b"{\"email\":\"ann\xff@example.com\"}", Refused(400)),
    (JSON, b"{\"email\":\"ann\\u0000@example.com\"}", Refused(400)),
    (JSON, b"\xef\xbb\xbf{\"email\":\"ann@example.com\"}", Refused(400)),
    (JSON, b"{\0\"\0e\0m\0a\0i\0l\0\"\0:\0\"\0a\0\"\0}\0", Refused(400)),
    (JSON, b"\xff\xfe{\0\"\0e\0m\0a\0i\0l\0\"\0:\0\"\0a\0\"\0}\0", Refused(400)),
    (JSON, b"email=ann%40example.com", Refused(400)),
    // Forms.
    (FORM, b"email=ann%40example.com", ANN),
    (FORM, b"x=1&email=ann@example.com&y", ANN),
    (FORM, b"%65mail=%61nn@example.com&email2=bob", ANN),
    (FORM, b"EMAIL=ANN@example.com+", ANN),
    (FORM, b"&&email=ann%2Btag@example.com&&", ANN),
    (FORM, b"user[email]=bob@example.com&email=ann@example.com", ANN),
    (FORM, b"user=ann", Without),
    (FORM, b"email=", Without),
    (FORM, b"email=ann@example.com&email=bob@example.com", Refused(400)),
    (FORM, b"email=ann@example.com&Email=bob@example.com", Refused(400)),
    (FORM, b"email=ann@example.com&%65mail=bob@example.com", Refused(400)),
    (FORM, b"email=ann@example.com;email=bob@example.com", Refused(400)),
    (FORM, b"email[]=ann@example.com", Refused(400)),
    (FORM, b"email%5B%5D=ann@example.com", Refused(400)),
    (FORM, b"email[$ne]=ann@example.com", Refused(400)),
    (FORM, b"email=ann@example.com&email[0]=bob@example.com", Refused(400)),
    (FORM, b"email.x=ann@example.com", Refused(400)),
    (FORM, b"email=ann%zz", Refused(400)),
    (FORM, b"email=ann%ff", Refused(400)),
    (FORM, b"email=ann\xff", Refused(400)),
    (FORM, b"email=ann%00@example.com", Refused(400)),
    (FORM, b"_charset_=utf-16&email=ann@example.com", Refused(415)),
    (FORM, br#"{"email":"ann@example.com"}"#, Refused(415)),
    (FORM, b" \n{\"x\":\"&email=ann%40example.com&\"}", Refused(415)),
    (FORM, b"--b1\r\nContent-Disposition: form-data; name=\"email\"\r\n\r\nann\r\n--b1--\r\n", Refused(400)),
    // Multipart.
    (
        MULTIPART,
        b"--b1\r\nContent-Disposition: form-data; name=\"email\"\r\n\r\nann@example.com\r\n--b1--\r\n",
        ANN,
    ),
    (
        "multipart/form-data; boundary=\"b1\"",
        b"--b1\r\ncontent-disposition: form-data; name=email\r\ncontent-type: text/plain; charset=utf-8\r\n\r\n\
          ann@example.com\r\n--b1\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x\"\r\n\r\n\xff\0\r\n--b1--",
        ANN,
    ),
    (
        MULTIPART,
        b"--b1\r\nContent-Disposition: form-data; name=\"user\"\r\n\r\nann@example.com\r\n--b1--\r\n",
        Without,
    ),
    (
        MULTIPART,
        b"--b1\r\nContent-Disposition: form-data; name=\"email\"\r\n\r\nann\r\n\
          --b1\r\nContent-Disposition: form-data; name=\"email\"\r\n\r\nbob\r\n--b1--\r\n",
        Refused(400),
    ),
    (
        MULTIPART,
        b"--b1\r\nContent-Disposition: form-data; name=\"x\"; name*=utf-8''email\r\n\r\nann\r\n--b1--\r\n",
        Refused(400),
    ),
    (
        MULTIPART,
        b"--b1\r\nContent-Disposition: form-data; name=\"x\"; name=\"email\"\r\n\r\nann\r\n--b1--\r\n",
        Refused(400),
    ),
    (
        MULTIPART,
        b"--b1\r\nContent-Disposition: form-data; name=\"email\"; filename=\"x\"\r\n\r\nann\r\n--b1--\r\n",
        Refused(400),
    ),
    (
        MULTIPART,
        b"--b1\r\nContent-Disposition: form-data; name=\"email\"\r\nContent-Transfer-Encoding: base64\r\n\r\n\
          YW5u\r\n--b1--\r\n",
        Refused(400),
    ),
    (
        MULTIPART,
        b"preamble\r\n--b1\r\nContent-Disposition: form-data; name=\"email\"\r\n\r\nann\r\n--b1--\r\n",
        Refused(400),
    ),
    (
        MULTIPART,
        b"--b1\r\nContent-Disposition: form-data; name=\"email\"\r\n\r\nann\r\n--b1--\r\n--b1\r\n",
        Refused(400),
    ),
    (MULTIPART, b"--b1\r\nContent-Disposition: form-data; name=\"email\"\r\n\r\nann\r\n", Refused(400)),
    (MULTIPART, b"--b1\nContent-Disposition: form-data; name=\"email\"\n\nann\n--b1--\n", Refused(400)),
    (MULTIPART, br#"{"email":"ann@example.com"}"#, Refused(400)),
    // Content types that say too little, too much or something else.
    ("", br#"{"email":"ann@example.com"}"#, Refused(415)),
    ("text/plain", br#"{"email":"ann@example.com"}"#, Refused(415)),
    ("application/xml", b"<email>ann@example.com</email>", Refused(415)),
    ("application/octet-stream", b"GET /smuggled HTTP/1.1\r\nhost: h\r\n\r\n", Refused(415)),
    ("multipart/mixed; boundary=b1", b"--b1--", Refused(415)),
    ("multipart/form-data", b"--b1--", Refused(415)),
    ("multipart/form-data; boundary=b1; boundary=b2", b"--b1--", Refused(415)),
    ("application/json, text/plain", br#"{"email":"ann@example.com"}"#, Refused(415)),
    ("application/json; charset=utf-16", br#"{"email":"ann@example.com"}"#, Refused(415)),
    ("application/json; charset=utf-8; charset=utf-7", br#"{"email":"ann@example.com"}"#, Refused(415)),
    ("application/x-www-form-urlencoded; charset=ibm037", b"email=ann", Refused(415)),
];

/// Framing headers and raw bodies, with what may be answered.
pub(super) const FRAMINGS: &[(&str, &str, &[u16])] = &[
    // Chunks as they may be.
    ("Transfer-Encoding: chunked", "1b;ext=1\r\n{\"email\":\"ann@example.com\"}\r\n0\r\n\r\n", &[200]),
    ("Transfer-Encoding: chunked", "001B\r\n{\"email\":\"ann@example.com\"}\r\n0\r\n\r\n", &[200]),
    ("Transfer-Encoding: Chunked", "1\r\n{\r\n1a\r\n\"email\":\"ann@example.com\"}\r\n0\r\n\r\n", &[200]),
    (
        "Transfer-Encoding: chunked",
        "1b\r\n{\"email\":\"ann@example.com\"}\r\n0\r\nX-Email: bob\r\n\r\n",
        &[200],
    ),
    ("Content-Length: 27\r\nContent-Length: 27", "{\"email\":\"ann@example.com\"}", &[400]),
    ("Content-Length: 27 , 27", "{\"email\":\"ann@example.com\"}", &[400]),
    ("Content-Length: 027", "{\"email\":\"ann@example.com\"}", &[400]),
    // Both framings.
    (
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "1b\r\n{\"email\":\"ann@example.com\"}\r\n0\r\n\r\n",
        &[400],
    ),
    (
        "Transfer-Encoding: chunked\r\nContent-Length: 76",
        "1b\r\n{\"email\":\"ann@example.com\"}\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
        &[400],
    ),
    ("Content-Length: 27\r\nTransfer-Encoding: identity", "{\"email\":\"ann@example.com\"}", &[400]),
    // Framings that are none.
    ("Content-Length: 27\r\nContent-Length: 28", "{\"email\":\"ann@example.com\"}", &[400]),
    ("Content-Length: +27", "{\"email\":\"ann@example.com\"}", &[400]),
    ("Content-Length: 0x1b", "{\"email\":\"ann@example.com\"}", &[400]),
    ("Content-Length: -1", "{\"email\":\"ann@example.com\"}", &[400]),
    ("Content-Length: 27 27", "{\"email\":\"ann@example.com\"}", &[400]),
    ("Content-Length: 99999999999999999999", "{\"email\":\"ann@example.com\"}", &[400]),
    ("Transfer-Encoding: xchunked", "1b\r\n{\"email\":\"ann@example.com\"}\r\n0\r\n\r\n", &[400]),
    ("Transfer-Encoding: chunked, gzip", "1b\r\n{\"email\":\"ann@example.com\"}\r\n0\r\n\r\n", &[400]),
    ("Transfer-Encoding : chunked", "1b\r\n{\"email\":\"ann@example.com\"}\r\n0\r\n\r\n", &[400]),
    ("Transfer-Encoding: gzip, chunked", "1b\r\n{\"email\":\"ann@example.com\"}\r\n0\r\n\r\n", &[400]),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "0\r\n\r\n", &[400]),
    (" folded: x\r\nContent-Length: 27", "{\"email\":\"ann@example.com\"}", &[400]),
    // Chunks that are none.
    ("Transfer-Encoding: chunked", "zz\r\n{\"email\":\"ann@example.com\"}\r\n0\r\n\r\n", &[400]),
    ("Transfer-Encoding: chunked", "0x1b\r\n{\"email\":\"ann@example.com\"}\r\n0\r\n\r\n", &[400]),
    ("Transfer-Encoding: chunked", "+1b\r\n{\"email\":\"ann@example.com\"}\r\n0\r\n\r\n", &[400]),
    ("Transfer-Encoding: chunked", "-1\r\n{\"email\":\"ann@example.com\"}\r\n0\r\n\r\n", &[400]),
    (
        "Transfer-Encoding: chunked",
        "fffffffffffffffff\r\n{\"email\":\"ann@example.com\"}\r\n0\r\n\r\n",
        &[400],
    ),
    (
        "Transfer-Encoding: chunked",
        "1a\r\n{\"email\":\"ann@example.com\"}\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
        &[400],
    ),
];
