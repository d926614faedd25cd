"""Files for the evaluation servers: made from results, dumps or a model, and checked."""
