//! Text in columns.

/// Rows of text with a heading; each column is as wide as its widest text.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new<const COLUMNS: usize>(heading: [&str; COLUMNS]) -> Self {
        Self { rows: vec![heading.map(str::to_owned).to_vec()] }
    }

    /// Adds a row.
    pub fn push<const COLUMNS: usize>(&mut self, row: [String; COLUMNS]) {
        self.rows.push(
            row.map(|text| {
                text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
            })
            .to_vec(),
        );
    }

    /// How many rows there are below the heading.
    pub fn len(&self) -> usize {
        self.rows.len() - 1
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.first().map_or(0, Vec::len);
        let widths: Vec<usize> = (0..columns)
            .map(|column| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(text, width)| format!("{text:width$}"));
            writeln!(formatter, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_control_characters_do_not_reach_the_terminal() {
        let mut table = Table::new(["NAME", "EXPIRES"]);
        table.push(["älice@example.org".to_owned(), "5s".to_owned()]);
        table.push(["b\x1b[31m".to_owned(), "1h".to_owned()]);

        assert_eq!(
            table.to_string(),
            "NAME               EXPIRES\nälice@example.org  5s\nb\u{fffd}[31m             1h\n"
        );
        assert_eq!(table.len(), 2);
    }
}
