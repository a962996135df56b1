//! HL7 v2 messages of every kind that is read.
