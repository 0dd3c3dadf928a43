//! Small pictures: shapes with classes, which the style of the page gives their colours, and text that is escaped.

use std::fmt::Write;

/// A picture that grows.
#[derive(Debug, Default)]
pub(super) struct Svg {
    body: String,
}

/// Where a text is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn put(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.body.write_fmt(arguments);
    }

    /// A rectangle, with what is shown of it when it is pointed at.
    pub(super) fn rect(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64), title: &str) {
        let (x, y, width, height) = (short(x), short(y), short(width), short(height));
        if title.is_empty() {
            self.put(format_args!(
                r#"<rect class="{class}" x="{x}" y="{y}" width="{width}" height="{height}"/>"#
            ));
        } else {
            self.put(format_args!(
                r#"<rect class="{class}" x="{x}" y="{y}" width="{width}" height="{height}"><title>{}</title></rect>"#,
                escaped(title)
            ));
        }
    }

    pub(super) fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let (x1, y1, x2, y2) = (short(x1), short(y1), short(x2), short(y2));
        self.put(format_args!(r#"<line class="{class}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>"#));
    }

    /// A line through points; closed it is an area.
    pub(super) fn path(&mut self, class: &str, points: &[(f64, f64)], is_closed: bool) {
        let mut path = String::new();
        for (index, (x, y)) in points.iter().enumerate() {
            let _ = write!(path, "{}{} {}", if index == 0 { "M" } else { "L" }, short(*x), short(*y));
        }
        if is_closed {
            path.push('Z');
        }
        self.put(format_args!(r#"<path class="{class}" d="{path}"/>"#));
    }

    pub(super) fn circle(&mut self, class: &str, (x, y): (f64, f64), radius: f64, title: &str) {
        let (x, y, radius) = (short(x), short(y), short(radius));
        self.put(format_args!(
            r#"<circle class="{class}" cx="{x}" cy="{y}" r="{radius}"><title>{}</title></circle>"#,
            escaped(title)
        ));
    }

    /// The mark of a verdict, told by its shape too: full, an empty ring, or a triangle.
    pub(super) fn mark(&mut self, verdict: &str, (x, y): (f64, f64), side: f64, title: &str) {
        let half = side / 2.0;
        match verdict {
            "hit" => self.rect("mark hit", (x, y), (side, side), title),
            "miss" => self.circle("mark miss", (x + half, y + half), half - 1.5, title),
            _ => self.path("mark open", &[(x, y + side), (x + half, y), (x + side, y + side)], true),
        }
    }

    pub(super) fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let (x, y) = (short(x), short(y));
        self.put(format_args!(
            r#"<text class="{class}" x="{x}" y="{y}" text-anchor="{anchor}">{}</text>"#,
            escaped(text)
        ));
    }

    /// What `other` has, in front of what there is.
    pub(super) fn append(&mut self, other: &Self) {
        self.body.push_str(&other.body);
    }

    /// The whole picture, `plot` for what looks for it, `label` for who cannot see it.
    pub(super) fn finish(self, plot: &str, (width, height): (f64, f64), label: &str) -> String {
        let (width, height) = (short(width), short(height));
        format!(
            r#"<svg data-plot="{plot}" role="img" aria-label="{}" viewBox="0 0 {width} {height}" preserveAspectRatio="xMinYMin meet">{}</svg>"#,
            escaped(label),
            self.body
        )
    }
}

impl Svg {
    /// As [`Self::finish`], not wider than it is drawn.
    pub(super) fn finish_sized(self, plot: &str, size: (f64, f64), label: &str) -> String {
        let picture = self.finish(plot, size, label);
        picture.replacen("<svg ", &format!(r#"<svg style="max-width:{}px" "#, short(size.0)), 1)
    }
}

/// How wide a text is, about, in the small letters of a plot.
pub(super) fn width(text: &str) -> f64 {
    let letters: u32 = text.chars().map(|letter| if letter == '\u{202f}' { 3 } else { 6 }).sum();
    f64::from(letters)
}

/// To a tenth: what is finer than that nobody sees, and it would be most of a page.
fn short(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").map(ToOwned::to_owned).unwrap_or(text)
}

/// Text for markup, in an attribute too.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for letter in super::text(text).chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}
