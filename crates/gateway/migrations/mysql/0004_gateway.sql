-- Answers of calls that came with an Idempotency-Key, kept for a day so that a repeated request
-- gets the same answer.
CREATE TABLE IF NOT EXISTS gateway_answers (
  charge_id VARCHAR(64) NOT NULL PRIMARY KEY,
  org_id VARCHAR(64) NOT NULL,
  content_type VARCHAR(255) NOT NULL,
  body LONGBLOB NOT NULL,
  created_at BIGINT NOT NULL,
  KEY gateway_answers_created (created_at)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
