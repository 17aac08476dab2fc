use std::path::Path;

use super::*;
use crate::config::environment::Environment;
use crate::config::reader::{Reader, Value};
use crate::config::tree::parse;

const SMALLEST: &str = "
version: 1
listen: [{ address: 127.0.0.1:8080 }]
upstreams: { app: { servers: [127.0.0.1:8000] } }
routes: [{ name: all, match: { path: /* }, upstream: app }]
";

#[test]
fn every_default_reads() {
    let environment = Environment::empty();
    let mut reader = Reader::new(&environment, Path::new("."));
    let file = reader.source("x.yaml", SMALLEST);
    let read = File::read(&parse(file, SMALLEST).root.unwrap(), &mut reader);
    assert_eq!(reader.into_parts().0.finish().map(|_| ()), Ok(()));
    let read = read.unwrap();
    assert_eq!(read.admin.unwrap().address.unwrap().value.to_string(), "127.0.0.1:9180");
    assert_eq!(read.store.unwrap().max_keys.unwrap().0, 1_000_000);
    let body = read.responses.unwrap().limited.unwrap().body.unwrap();
    assert_eq!(body, crate::decision::answer::LimitedAnswer::default().body);
}

#[test]
fn every_key_of_the_schema_is_described() {
    fn walk(schema: &Json, path: &str) {
        if let Some(properties) = schema.get("properties").and_then(Json::as_object) {
            for (key, property) in properties {
                let description = property["description"].as_str().unwrap_or_default();
                assert!(description.len() > 5, "{path}.{key} lacks a description");
            }
        }
    }
    let schema = schema();
    walk(&schema, "File");
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        walk(definition, name);
    }
}

#[test]
fn every_reference_of_the_schema_has_its_definition() {
    fn walk(schema: &Json, definitions: &Json) {
        match schema {
            Json::Object(object) => {
                if let Some(reference) = object.get("$ref").and_then(Json::as_str) {
                    let name = reference.strip_prefix("#/$defs/").unwrap();
                    assert!(definitions[name].is_object(), "{name}");
                }
                object.values().for_each(|value| walk(value, definitions));
            }
            Json::Array(items) => items.iter().for_each(|item| walk(item, definitions)),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
        }
    }
    let schema = schema();
    walk(&schema, &schema["$defs"]);
}
