//! Enums whose numbers cross the boundary, with the names that output uses.

macro_rules! numbered {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])+ $variant:ident = $value:literal => $key:literal,)+ }) => {
        $(#[$meta])*
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[doc = $doc])+ $variant = $value,)+ }

        impl $name {
            /// Every variant with its name as output uses it and its meaning.
            pub const ALL: &[(Self, &'static str, &'static str)] =
                &[$((Self::$variant, $key, concat!($($doc),+)),)+];

            /// The variant with this number.
            pub fn from_number(number: u8) -> Option<Self> {
                match number { $($value => Some(Self::$variant),)+ _ => None }
            }

            /// The name that output uses.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $key,)+ }
            }
        }
    };
}
