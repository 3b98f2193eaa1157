//! How things are told apart: by a shape or a word first, and by colour where there is one.

use ratatui::style::{Color, Modifier, Style};

/// With colours or without.
#[derive(Clone, Copy, Debug, Default)]
pub struct Theme {
    pub has_colors: bool,
}

impl Theme {
    fn colored(self, color: Color) -> Style {
        if self.has_colors {
            Style::new().fg(color)
        } else {
            Style::new()
        }
    }

    #[must_use]
    pub fn title(self) -> Style {
        self.colored(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    #[must_use]
    pub fn trouble(self) -> Style {
        self.colored(Color::Red).add_modifier(Modifier::BOLD)
    }

    #[must_use]
    pub fn fine(self) -> Style {
        self.colored(Color::Green)
    }

    /// What is less important.
    #[must_use]
    pub fn dim(self) -> Style {
        self.colored(Color::DarkGray)
    }

    #[must_use]
    pub fn chart(self) -> Style {
        self.colored(Color::Blue)
    }

    #[must_use]
    pub fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}
