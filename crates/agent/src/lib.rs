//! The turn loop, model codecs, built-in tools: holds no key and no socket.
