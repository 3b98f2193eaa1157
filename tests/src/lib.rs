//! Guards shared by the privileged tests.
