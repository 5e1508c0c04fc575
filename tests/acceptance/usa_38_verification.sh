# Create a job
JOB_ID=$(curl -s -X POST -H "Authorization: Bearer $TOKEN" \
  -H "Content-Type: application/json" \
  -d '{"story": "As a user, I want to log in", "iterations": ["validation"]}' \
  http://localhost:3000/api/v1/jobs | jq -r '.job.id')

# Poll for completion
while true; do
  STATUS=$(curl -s -H "Authorization: Bearer $TOKEN" \
    http://localhost:3000/api/v1/jobs/$JOB_ID | jq -r '.status')
  echo "Status: $STATUS"
  [ "$STATUS" = "completed" ] && break
  [ "$STATUS" = "failed" ] && break
  sleep 2
done

# Get results
curl -H "Authorization: Bearer $TOKEN" \
  http://localhost:3000/api/v1/jobs/$JOB_ID | jq '.result'

# Test cancellation
JOB_ID=$(curl -s -X POST -H "Authorization: Bearer $TOKEN" \
  -H "Content-Type: application/json" \
  -d '{"story": "As a user, I want to log in", "iterations": ["validation"]}' \
  http://localhost:3000/api/v1/jobs | jq -r '.job.id')
curl -X DELETE -H "Authorization: Bearer $TOKEN" \
  http://localhost:3000/api/v1/jobs/$JOB_ID
