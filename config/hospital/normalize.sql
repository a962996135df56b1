-- What becomes of a fact. Planned once with Apache DataFusion's SQL, executed for every batch.
--
-- facts     row, subject_id, time, code, numeric_value, text_value, unit, recorded_at, op, event_key,
--           encounter_id, source: as they were sent; the code as the log writes it (LOINC//8867-4), a
--           truth value as 1 or 0, identifiers as pseudonyms
-- concepts  code, concept, unit, low, high: concepts.csv
-- units     unit, concept, factor, shift: value * factor + shift is in the unit of the concept
--
-- The result must have row (facts.row as it is) and concept, and may have time, code, numeric_value,
-- text_value, unit and problem. What it leaves out stays as it was sent; a fact that it leaves out
-- (WHERE) is dropped. A problem is a reason of a dead letter, such as 'unit': a record all of whose
-- facts have one becomes a dead letter, in others the fact is kept as the result says.
--
-- An event must follow from its fact alone: no aggregates, no windows, no now(). What may fail on a
-- value fails the record: write TRY_CAST, not CAST.

WITH mapped AS (
    SELECT
        facts.row,
        facts.op,
        facts.text_value,
        facts.unit,
        concepts.concept,
        concepts.unit AS canonical,
        concepts.low,
        concepts.high,
        -- A text that is a number is one where the concept has a unit.
        CASE
            WHEN facts.text_value IS NULL OR concepts.unit IS NULL THEN facts.numeric_value
            WHEN abs(TRY_CAST(facts.text_value AS DOUBLE)) <= 3.4e38 THEN TRY_CAST(facts.text_value AS DOUBLE)
        END AS number
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
    CASE WHEN number IS NULL THEN text_value END AS text_value,
    CASE WHEN strange OR number IS NULL OR canonical IS NULL THEN unit ELSE canonical END AS unit,
    -- Beyond what is plausible a value is kept, but not under its concept.
    CASE WHEN NOT strange AND (number IS NULL OR value BETWEEN low AND high) THEN concept END AS concept,
    CASE WHEN strange AND op = 'assert' THEN 'unit' END AS problem
FROM converted
