//! What the server answers to the options it knows.

use super::{Exports, Found, Outcome, ServerHandshake};
use crate::TransmissionFlags;
use crate::bytes::{Put, wire_length};
use crate::context::ContextRequest;
use crate::headers::{Headers, Terms};
use crate::option::{
    INFO_BLOCK_SIZE, INFO_EXPORT, INFO_NAME, InfoRequest, OPT_EXTENDED_HEADERS, OPT_GO, OPT_LIST,
    OPT_SET_META_CONTEXT, OptionError, REP_ACK, REP_INFO, REP_META_CONTEXT, REP_SERVER, put_reply,
};

impl ServerHandshake {
    /// The export of a name, with the flags that depend on what was negotiated.
    pub(super) fn find<X: Exports>(&self, name: &str, exports: &X) -> Option<Found<X::Export>> {
        let mut found = exports.find(name)?;
        if self.headers != Headers::Simple {
            found.info.flags = found.info.flags | TransmissionFlags::SEND_DF;
        }
        // "Servers … SHOULD NOT advertise this bit in response to NBD_OPT_GO if the client does not negotiate
        // metacontexts."
        if self.headers == Headers::Extended && !self.contexts_of(&found.name).is_empty() {
            found.info.flags = found.info.flags | TransmissionFlags::BLOCK_STATUS_PAYLOAD;
        }
        Some(found)
    }

    /// "A client MUST NOT send `NBD_CMD_BLOCK_STATUS` unless … the final time that was sent, it referred to the same
    /// export name": contexts of another export are no terms of this one.
    fn contexts_of(&self, name: &str) -> &[u32] {
        let selected = self.contexts.as_ref().filter(|(export, _)| export == name);
        selected.map_or(&[], |(_, contexts)| contexts)
    }

    pub(super) fn enter<E>(&self, found: Found<E>) -> Outcome<E> {
        let terms = Terms { headers: self.headers, contexts: self.contexts_of(&found.name).to_vec() };
        Outcome::Transmission(found, terms)
    }

    /// Lists contexts or selects them. Selecting replaces what was selected before, also when it fails.
    pub(super) fn meta_context<X: Exports>(
        &mut self,
        option: u32,
        payload: &[u8],
        exports: &X,
        output: &mut Vec<u8>,
    ) -> Result<(), OptionError> {
        let select = option == OPT_SET_META_CONTEXT;
        if select {
            self.contexts = None;
        }
        if self.headers == Headers::Simple {
            return Err(OptionError::Invalid);
        }
        let request = ContextRequest::parse(payload).ok_or(OptionError::Invalid)?;
        let found = exports.find(request.name).ok_or(OptionError::UnknownExport)?;
        let mut selected = Vec::new();
        for (id, context) in (0..).zip(exports.contexts()) {
            if !(if select { request.selects(context) } else { request.lists(context) }) {
                continue;
            }
            let mut entry = Vec::with_capacity(4 + context.len());
            // "The metadata context ID in these replies is reserved and SHOULD be set to zero" of a list.
            entry.put_u32(if select { id } else { 0 });
            entry.extend_from_slice(context.as_bytes());
            put_reply(output, option, REP_META_CONTEXT, &entry);
            selected.push(id);
        }
        if select {
            self.contexts = Some((found.name, selected));
        }
        put_reply(output, option, REP_ACK, &[]);
        Ok(())
    }

    /// Takes chunked replies, or extended headers, for the transmission phase.
    pub(super) fn use_headers(&mut self, option: u32, payload: &[u8]) -> Result<(), OptionError> {
        if !payload.is_empty() {
            return Err(OptionError::Invalid);
        }
        if option == OPT_EXTENDED_HEADERS {
            self.headers = Headers::Extended;
        } else if self.headers == Headers::Extended {
            // "The client has already successfully negotiated extended headers, which takes precedence over this
            // option."
            return Err(OptionError::ExtendedHeadersRequired);
        } else {
            self.headers = Headers::Structured;
        }
        Ok(())
    }

    /// `NBD_OPT_INFO` and `NBD_OPT_GO` differ only in what comes after the acknowledgement.
    pub(super) fn info<X: Exports>(
        &self,
        option: u32,
        payload: &[u8],
        exports: &X,
        output: &mut Vec<u8>,
    ) -> Outcome<X::Export> {
        let Some(request) = InfoRequest::parse(payload) else {
            put_reply(output, option, OptionError::Invalid.value(), &[]);
            return Outcome::More;
        };
        let Some(found) = self.find(request.name, exports) else {
            put_reply(output, option, OptionError::UnknownExport.value(), &[]);
            return Outcome::More;
        };
        let mut entry = Vec::new();
        entry.put_u16(INFO_EXPORT);
        entry.put_u64(found.info.size);
        entry.put_u16(found.info.flags.0);
        put_reply(output, option, REP_INFO, &entry);
        if request.wants(INFO_NAME) {
            entry.clear();
            entry.put_u16(INFO_NAME);
            entry.extend_from_slice(found.name.as_bytes());
            put_reply(output, option, REP_INFO, &entry);
        }
        if let Some(sizes) = found.info.block_sizes.filter(|_| request.wants(INFO_BLOCK_SIZE)) {
            entry.clear();
            entry.put_u16(INFO_BLOCK_SIZE);
            entry.put_u32(sizes.minimum);
            entry.put_u32(sizes.preferred);
            entry.put_u32(sizes.maximum);
            put_reply(output, option, REP_INFO, &entry);
        }
        put_reply(output, option, REP_ACK, &[]);
        if option == OPT_GO { self.enter(found) } else { Outcome::More }
    }
}

pub(super) fn list<X: Exports>(payload: &[u8], exports: &X, output: &mut Vec<u8>) {
    if !payload.is_empty() {
        return put_reply(output, OPT_LIST, OptionError::Invalid.value(), &[]);
    }
    for name in exports.names() {
        let mut entry = Vec::with_capacity(4 + name.len());
        entry.put_u32(wire_length(name.len()));
        entry.extend_from_slice(name.as_bytes());
        put_reply(output, OPT_LIST, REP_SERVER, &entry);
    }
    put_reply(output, OPT_LIST, REP_ACK, &[]);
}
