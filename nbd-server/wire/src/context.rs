//! Metadata contexts by name: what `NBD_OPT_LIST_META_CONTEXT` and `NBD_OPT_SET_META_CONTEXT` ask for.

use crate::bytes::Fields;
use crate::option::parse_name;

/// The payload of either option (proto.md, "`NBD_OPT_LIST_META_CONTEXT`").
pub(crate) struct ContextRequest<'a> {
    pub(crate) name: &'a str,
    queries: Vec<&'a str>,
}

impl<'a> ContextRequest<'a> {
    /// `None` when it is malformed: lengths that do not add up, what is no string, or a query without the colon behind
    /// its namespace.
    pub(crate) fn parse(payload: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(payload);
        let length = fields.u32()?;
        let name = parse_name(fields.bytes(length)?)?;
        let count = fields.u32()?;
        let mut queries = Vec::new();
        for _ in 0..count {
            let length = fields.u32()?;
            let query = parse_name(fields.bytes(length)?)?;
            queries.push(Some(query).filter(|query| query.contains(':'))?);
        }
        fields.0.is_empty().then_some(Self { name, queries })
    }

    /// Whether `NBD_OPT_LIST_META_CONTEXT` shows `context`: always without a query, else by its name, or by its
    /// namespace and colon alone.
    pub(crate) fn lists(&self, context: &str) -> bool {
        let namespace = context.split_inclusive(':').next().unwrap_or(context);
        self.queries.is_empty() || self.selects(context) || self.queries.contains(&namespace)
    }

    /// Whether `NBD_OPT_SET_META_CONTEXT` selects `context`: by its whole name only.
    pub(crate) fn selects(&self, context: &str) -> bool {
        self.queries.contains(&context)
    }
}
