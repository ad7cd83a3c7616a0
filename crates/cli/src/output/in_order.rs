//! What several do at once, told as if one had done it after the other.

/// Texts of several places in a row: those of the first are out at once, those of the others when all before are complete.
pub(crate) struct InOrder<P> {
    print: P,
    turn: usize,
    places: Vec<Place>,
}

#[derive(Default)]
struct Place {
    waiting: Vec<String>,
    complete: bool,
}

impl<P: FnMut(&str)> InOrder<P> {
    pub(crate) fn new(places: usize, print: P) -> Self {
        Self {
            print,
            turn: 0,
            places: std::iter::repeat_with(Place::default).take(places).collect(),
        }
    }

    pub(crate) fn tell(&mut self, place: usize, text: String) {
        if place == self.turn {
            (self.print)(&text);
        } else if let Some(place) = self.places.get_mut(place) {
            place.waiting.push(text);
        }
    }

    /// Nothing more comes from this place.
    pub(crate) fn complete(&mut self, place: usize) {
        if let Some(place) = self.places.get_mut(place) {
            place.complete = true;
        }
        while self.places.get(self.turn).is_some_and(|place| place.complete) {
            self.turn += 1;
            if let Some(next) = self.places.get_mut(self.turn) {
                std::mem::take(&mut next.waiting)
                    .iter()
                    .for_each(|text| (self.print)(text));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_faster_is_told_of_later() {
        let mut out = Vec::new();
        let mut told = InOrder::new(3, |text: &str| out.push(text.to_owned()));
        told.tell(2, "c1".into());
        told.tell(0, "a1".into());
        told.tell(1, "b1".into());
        told.complete(1);
        told.tell(0, "a2".into());
        told.complete(0);
        told.tell(2, "c2".into());
        told.complete(2);
        assert_eq!(out, ["a1", "a2", "b1", "c1", "c2"]);
    }
}
