//! `tollgate schema`: the JSON Schema of gateway.yaml, for editors.

use std::io::{self, Write};

use crate::config;

/// Writes the schema, indented, as `gateway.schema.json` holds it.
pub(super) fn schema(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{:#}", config::schema())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_beside_the_shipped_configuration_is_the_one_of_this_version() {
        let mut written = Vec::new();
        schema(&mut written).unwrap();
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway.schema.json");
        let committed = std::fs::read_to_string(path).unwrap();
        let same = committed == String::from_utf8(written).unwrap();
        assert!(same, "gateway.schema.json is stale: run `tollgate schema > gateway.schema.json`");
    }
}
