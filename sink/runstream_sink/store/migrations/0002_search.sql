-- Searches find runs by what they logged.  Of a long text the first 64 characters stand in the index.

CREATE INDEX latest_metrics_by_value ON latest_metrics (key, value);
CREATE INDEX params_by_value ON params (key, substr(value, 1, 64));
CREATE INDEX tags_by_value ON tags (key, substr(value, 1, 64));
