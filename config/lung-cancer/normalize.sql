-- What becomes of a fact. Planned once with Apache DataFusion's SQL, executed for every batch.
--
-- facts     row, subject_id, time, code, numeric_value, text_value, unit, recorded_at, op, event_key,
--           encounter_id, source: as they were sent; the code as the log writes it (LOINC//8867-4), a
--           truth value as 1 or 0, identifiers as pseudonyms. A text that means a number has that too,
--           where its concept has a unit: 5 for '<5' (see concepts.csv); a plain number loses the text
-- concepts  code, concept, unit, low, high: concepts.csv
-- units     unit, concept, factor, shift: value * factor + shift is in the unit of the concept
--
-- The result must have row (facts.row as it is) and concept, and may have time, code, numeric_value,
-- text_value, unit, implausible and problem. What it leaves out stays as it was sent; a fact that it
-- leaves out (WHERE) is dropped. A number that is implausible is kept, but no feature looks at it. A
-- problem is a reason of a dead letter, such as 'unit': a record all of whose facts have one becomes
-- a dead letter, in others the fact is kept as the result says.
--
-- An event must follow from its fact alone: no aggregates, no windows, no now(). What may fail on a
-- value fails the record: write TRY_CAST, not CAST.

WITH mapped AS (
    SELECT
        facts.row,
        facts.op,
        facts.numeric_value AS number,
        facts.unit,
        concepts.concept,
        concepts.unit AS canonical,
        concepts.low,
        concepts.high
    FROM facts
    LEFT JOIN concepts ON facts.code = concepts.code
),
converted AS (
    SELECT
        mapped.*,
        -- Without a unit a number is taken to be in the unit of its concept.
        coalesce(mapped.number * units.factor + units.shift, mapped.number) AS value,
        mapped.number IS NOT NULL AND mapped.canonical IS NOT NULL
            AND mapped.unit IS NOT NULL AND units.factor IS NULL AS strange
    FROM mapped
    LEFT JOIN units ON mapped.unit = units.unit AND mapped.concept = units.concept
)
SELECT
    row,
    value AS numeric_value,
    CASE WHEN strange OR number IS NULL OR canonical IS NULL THEN unit ELSE canonical END AS unit,
    -- In a unit that is none of its concept's a number says nothing of the concept.
    CASE WHEN NOT strange THEN concept END AS concept,
    NOT strange AND value NOT BETWEEN low AND high AS implausible,
    CASE WHEN strange AND op = 'assert' THEN 'unit' END AS problem
FROM converted
