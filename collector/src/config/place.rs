//! Errors of a configuration file, with their place and the remedy.

/// A sentence about an error: the place, the line, what is wrong, and what may have been meant.
pub fn explain(path: &str, text: &str, error: &toml::de::Error) -> String {
    let message = error.message().trim();
    let remedy = remedy(message).map_or(String::new(), |remedy| format!("; {remedy}"));
    let Some(span) = error.span() else {
        return format!("{path}: {message}{remedy}");
    };
    let before = text.get(..span.start).unwrap_or(text);
    let number = before.matches('\n').count() + 1;
    let line = text.lines().nth(number - 1).unwrap_or_default().trim();
    format!("{path}:{number}: {line:?}: {message}{remedy}")
}

/// What may have been meant.
fn remedy(message: &str) -> Option<String> {
    if message.contains("expected a string") {
        return Some("write the value in quotes".to_owned());
    }
    if message.contains("map, expected a sequence") {
        return Some("write its name in double brackets, such as [[files]]".to_owned());
    }
    if message.contains("expected a sequence") {
        return Some("write a list in brackets, such as [\"gw\"]".to_owned());
    }
    let mut words = message.split('`').skip(1).step_by(2);
    let is_unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
    let wrong = words.next().filter(|_| is_unknown)?;
    let nearest = words.min_by_key(|word| distance(wrong, word))?;
    let is_near = distance(wrong, nearest) <= wrong.len().div_ceil(2);
    is_near.then(|| format!("did you mean `{nearest}`?"))
}

/// How many letters must be inserted, removed or replaced to turn one word into the other.
fn distance(a: &str, b: &str) -> usize {
    let mut distances: Vec<usize> = (0..=b.len()).collect();
    for (row, letter) in a.bytes().enumerate() {
        let mut diagonal = distances[0];
        distances[0] = row + 1;
        for (column, other) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(letter != other);
            diagonal = distances[column + 1];
            distances[column + 1] = replaced.min(diagonal + 1).min(distances[column] + 1);
        }
    }
    distances[b.len()]
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn the_distance_counts_letters() {
        assert_eq!(distance("rotate_byte", "rotate_bytes"), 1);
        assert_eq!(distance("fitler", "filter"), 2);
        assert_eq!(distance("", "node"), 4);
    }
}
