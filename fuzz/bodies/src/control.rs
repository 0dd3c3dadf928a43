//! The control protocol: an order or a reply to send, whatever the line.

use brim_device::control::{Order, Reply};

/// A line, as an order and as a reply.
pub fn control(data: &[u8]) {
    match Order::parse(data) {
        Ok(order) => {
            let line = order.to_line();
            one_line(&line);
            let again = Order::parse(line.as_bytes()).unwrap();
            assert_eq!((again.id, &again.export, again.limit), (order.id, &order.export, order.limit));
        }
        Err(reply) => {
            let line = reply.to_line();
            one_line(&line);
            assert_eq!(Reply::parse(line.as_bytes()), Ok(reply));
        }
    }
    if let Ok(reply) = Reply::parse(data) {
        let line = reply.to_line();
        one_line(&line);
        assert_eq!(Reply::parse(line.as_bytes()).unwrap().id, reply.id);
    }
}

fn one_line(text: &str) {
    assert_eq!(text.find('\n'), Some(text.len() - 1), "{text:?}");
}
