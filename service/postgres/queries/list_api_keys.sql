-- List API keys, newest first.
SELECT * FROM api_keys ORDER BY created_at DESC
